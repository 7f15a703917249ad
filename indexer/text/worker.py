"""A parser process: frames in on stdin, frames out on stdout, errors on stderr; it parses files and may cut them.

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
from collections.abc import Callable, Iterator
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import BinaryIO, TypeAlias

from indexer.errors import ParseFailed, SlotUnavailable
from indexer.text import frames, sandbox
from indexer.text.chunk import TokenCounter
from indexer.text.parse import WALL_CLOCK_FACTOR, LibraryMissing, ParseLimits, format_of, parse_here
from indexer.text.ready import CutOrder, ready

OpenCounter: TypeAlias = Callable[[str, int, str], TokenCounter]
"""Path of a tokenizer's file, limit and stamp to what counts tokens."""

_LIBRARIES = ("pypdfium2", "xberg", "charset_normalizer")
_FOR_CUTTING = ("tokenizers", "semantic_text_splitter", "Stemmer", "tree_sitter")
_NICE = 5
"""Steps below its owner: searches and the model go first, and it still gets a third of a busy core."""
_GRACE = 5
"""Seconds after its limit, patience included, when the kernel ends a process whose owner should have ended it."""


def main(arguments: list[str] | None = None, open_counter: OpenCounter | None = None) -> None:
    """Serve requests until stdin ends; leaves without running destructors.

    xberg's threads make an orderly interpreter exit crash (measured: SIGSEGV after asyncio ran), so there is none.

    Args:
        arguments: Command line, that of the process when None.
        open_counter: Opens tokenizers; without it files are parsed only.
    """
    options = argparse.ArgumentParser(prog="indexer.text.worker")
    options.add_argument("--memory", type=int, default=0, help="bytes of private memory")
    options.add_argument("--once", action="store_true", help="answer one file, then end")
    chosen = options.parse_args(arguments)
    requests, answers = _channels()
    if hasattr(os, "nice"):
        os.nice(_NICE)
    network = sandbox.confine(chosen.memory)
    missing = [name for name in _LIBRARIES if not _loads(name)]
    uncut = [name for name in _FOR_CUTTING if open_counter is None or not _loads(name)]
    missing += uncut if open_counter is not None else []
    greeting = {"ready": True, "pid": os.getpid(), "network": network, "missing": missing, "cuts": not uncut}
    _send(answers, greeting)
    counter = lru_cache(maxsize=4)(open_counter) if open_counter else None
    while (message := frames.read(requests)) is not None:
        for answer in _answers(*frames.requested(message), counter):
            _send(answers, answer if answer.get("more") else answer | {"peak_bytes": _peak()})
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


def _answers(
    path: str, limits: ParseLimits, order: CutOrder | None, counter: OpenCounter | None
) -> Iterator[frames.Message]:
    """One file's outcome; this is the boundary where any error becomes the file's reason."""
    try:
        if order is None:
            _alarm(ceil(WALL_CLOCK_FACTOR * limits.time_for(Path(path).lstat().st_size)) + _GRACE)
            yield frames.answer(parse_here(path, limits))
        else:
            yield from _cut(path, limits, order, counter)
    except ParseFailed as error:
        yield frames.refusal(error)
    except FileNotFoundError:
        yield frames.refusal(ParseFailed("the file is gone"))
    except MemoryError:
        limit = f"{limits.memory_bytes / 1e6:,.0f} MB"
        yield frames.refusal(ParseFailed(f"needs more memory than the limit of {limit}")) | {"retire": True}
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0].replace("_", "-")
        remedy = f"install it there: {sys.executable} -m pip install {package}"
        yield frames.refusal(LibraryMissing(f"needs the package {package}, which the parsers' Python lacks; {remedy}"))
    except RecursionError:
        yield frames.refusal(ParseFailed("nested too deeply to be read"))
    except Exception as error:
        sys.stderr.write(traceback.format_exc())
        yield frames.refusal(ParseFailed(f"the parser failed: {type(error).__name__}: {str(error)[:200]}"))
    finally:
        _alarm(0)


def _cut(path: str, limits: ParseLimits, order: CutOrder, counter: OpenCounter | None) -> Iterator[frames.Message]:
    """A file parsed and cut, with a time limit for each."""
    _alarm(ceil(WALL_CLOCK_FACTOR * limits.time_for(Path(path).lstat().st_size)) + _GRACE)
    try:
        if counter is None:
            raise OSError("it has no tokenizer")
        tokens = counter(order.tokenizer, order.limit, order.stamp)
    except (SlotUnavailable, OSError, ImportError) as error:
        yield frames.not_cut(str(error))
        return
    format_of(path)  # refuses what is binary without reading all of it
    parsed = parse_here(path, limits)
    if order.unless and parsed.sha256 == order.unless:
        yield from frames.prepared(parsed, None)
        return
    to_cut = frames.cutting(parsed)
    _alarm(ceil(WALL_CLOCK_FACTOR * limits.time_to_cut(to_cut["characters"])) + _GRACE)
    yield to_cut
    yield from frames.prepared(parsed, ready(parsed.document, tokens, order.limit, order.name))


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
