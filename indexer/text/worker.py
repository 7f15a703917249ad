"""A parser process: ``python -u -m indexer.text.worker``. Frames in on stdin, frames out on stdout, errors on stderr.

It confines itself, loads the document libraries, says ``ready``, and answers one file at a time until its input ends.
Whatever a file does to it, its owner sees an answer or the end of this process.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import traceback
from math import ceil
from pathlib import Path
from typing import BinaryIO

from indexer.errors import ParseFailed
from indexer.text import frames, sandbox
from indexer.text.parse import LibraryMissing, ParseLimits, parse_here

_LIBRARIES = ("pypdfium2", "xberg", "charset_normalizer")
_GRACE = 5
"""Seconds after which the kernel ends a process whose owner should have ended it (and may be dead itself)."""


def main(arguments: list[str] | None = None) -> None:
    """Serve parse requests until stdin ends; leaves without running destructors.

    xberg's threads make an orderly interpreter exit crash (measured: SIGSEGV after asyncio ran), so there is none.
    """
    options = argparse.ArgumentParser(prog="indexer.text.worker")
    options.add_argument("--memory", type=int, default=0, help="bytes of private memory")
    options.add_argument("--once", action="store_true", help="answer one file, then end")
    chosen = options.parse_args(arguments)
    requests, answers = _channels()
    network = sandbox.confine(chosen.memory)
    missing = [name for name in _LIBRARIES if not _loads(name)]
    _send(answers, {"ready": True, "pid": os.getpid(), "network": network, "missing": missing})
    while (message := frames.read(requests)) is not None:
        path, limits = frames.requested(message)
        _send(answers, _answer(path, limits) | {"peak_bytes": _peak()})
        if chosen.once:
            break
    sys.stderr.flush()
    os._exit(0)


def _channels() -> tuple[BinaryIO, BinaryIO]:
    """The protocol's two streams, out of reach of stray prints: descriptor 1 becomes stderr, 0 nothing."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


def _send(stream: BinaryIO, message: frames.Message) -> None:
    stream.write(frames.encode(message))
    stream.flush()


def _loads(name: str) -> bool:
    try:
        importlib.import_module(name)
    except (ImportError, OSError) as error:
        sys.stderr.write(f"error: {name} cannot be loaded by {sys.executable}: {error}\n")
        return False
    return True


def _answer(path: str, limits: ParseLimits) -> frames.Message:
    """One file's outcome; this is the boundary where any error becomes the file's reason."""
    try:
        size = Path(path).lstat().st_size
        _alarm(ceil(limits.time_for(size)) + _GRACE)
        return frames.answer(parse_here(path, limits))
    except ParseFailed as error:
        return frames.refusal(error)
    except FileNotFoundError:
        return frames.refusal(ParseFailed("the file is gone"))
    except MemoryError:
        limit = f"{limits.memory_bytes / 1e6:,.0f} MB"
        return frames.refusal(ParseFailed(f"needs more memory than the limit of {limit}")) | {"retire": True}
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0].replace("_", "-")
        remedy = f"install it there: {sys.executable} -m pip install {package}"
        return frames.refusal(
            LibraryMissing(f"needs the package {package}, which the parsers' Python lacks; {remedy}")
        )
    except RecursionError:
        return frames.refusal(ParseFailed("nested too deeply to be read"))
    except Exception as error:
        sys.stderr.write(traceback.format_exc())
        return frames.refusal(ParseFailed(f"the parser failed: {type(error).__name__}: {str(error)[:200]}"))
    finally:
        _alarm(0)


def _alarm(seconds: int) -> None:
    """Have the kernel end this process after some seconds (0: call it off), even inside a library's loop."""
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)


def _peak() -> int:
    """The most memory this process ever held, bytes; 0 where unknown.

    Linux's ``ru_maxrss`` outlives ``exec``: a worker started by a process with a large model would count that model as
    its own. ``VmHWM`` belongs to the program that runs now.
    """
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")), 0)
    try:
        import resource  # noqa: PLC0415  # POSIX only
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
