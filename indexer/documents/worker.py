"""The worker process: requests in on stdin, answers out on stdout, errors on stderr; parses files and chunks them.

It confines itself, imports the document libraries, tries each on a small sample, sends a ready frame, and answers one
file at a time until its input ends. Whatever a file does to it, the pool sees an answer or the end of this process.
Started as ``python -u -m indexer.documents.worker``; it reads a model's tokenizer, never a model.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from io import FileIO
from math import ceil
from typing import BinaryIO, TextIO, TypeAlias

from indexer.documents import samples, worker_protocol
from indexer.documents.confinement import STEPS, confine, refusals
from indexer.documents.parse import WALL_CLOCK_FACTOR, LibraryMissing, format_of, open_source, parse_here
from indexer.documents.worker_protocol import ChunkRequest, Request, chunk_document
from indexer.errors import ParseFailed, SlotUnavailable
from indexer.models.tokenizer import open_counter
from indexer.text.chunk import TokenCounter

if sys.platform != "win32":
    import resource

# Serving ------------------------------------------------------------------------------------------------------------

OpenCounter: TypeAlias = Callable[[str, int, str, FileIO | None], TokenCounter]
"""Opens a token counter from the path of a tokenizer's file, a limit, a stamp, and the file if it is open already."""

Counters: TypeAlias = Callable[[ChunkRequest, FileIO | None], TokenCounter]
"""The token counter of a request; it is opened, from the open file where there is one, the first time."""

_MOST_COUNTERS = 4
_LIBRARIES = ("pypdfium2", "xberg", "charset_normalizer")
_CHUNKING_LIBRARIES = ("tokenizers", "semantic_text_splitter", "Stemmer", "tree_sitter")
_NICENESS = 5
"""Steps below the owner process: searches and the model go first, and it still gets a third of a busy core."""
_ALARM_GRACE_S = 5
"""Seconds after the pool's time limit when the kernel ends a process that the pool should have ended."""


def main(arguments: list[str] | None = None, open_counter: OpenCounter = open_counter) -> None:
    """Answer requests until stdin ends.

    It ends without an orderly interpreter exit, because xberg's threads make that crash (measured: SIGSEGV after
    asyncio ran).

    Args:
        arguments: Command line, that of the process when None.
        open_counter: Opens tokenizers.
    """
    options = argparse.ArgumentParser(prog="indexer.documents.worker")
    options.add_argument("--memory", type=int, default=0, help="bytes of private memory")
    options.add_argument("--once", action="store_true", help="answer one file, then end")
    options.add_argument("--files", type=int, help="descriptor of the socket that the open files come over")
    options.add_argument("--without", default="", help=f"limits to leave out, of {','.join(STEPS)}")
    options.add_argument("--no-samples", action="store_true", help="do not try the libraries: another process has")
    chosen = options.parse_args(arguments)
    requests, answers = _channels()
    files = None if chosen.files is None else socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=chosen.files)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    _peak_memory()  # opens the file that tells it, while files may be opened
    libraries = (*_LIBRARIES, *_CHUNKING_LIBRARIES)
    installed = {name for name in libraries if find_spec(name) is not None}
    confinement = confine(chosen.memory, without=chosen.without.split(","))
    loaded = [name for name in libraries if _can_import(name)]
    failing = [] if chosen.no_samples else samples.failing(loaded)
    greeting = {
        "ready": True,
        "pid": os.getpid(),
        "steps": confinement.steps,
        "unavailable": confinement.unavailable,
        "refused": refusals(confinement),
        "missing": [name for name in libraries if name not in loaded],
        "failing": [name for name in libraries if name in failing or (name in installed and name not in loaded)],
        "can_chunk": set(_CHUNKING_LIBRARIES) <= set(loaded),
    }
    _send(answers, greeting)
    counter = _remembering(open_counter)
    while (message := worker_protocol.read_frame(requests)) is not None:
        asked = worker_protocol.parse_request(message)
        # An error here ends the process: the next request must not get this one's file.
        given = () if files is None else worker_protocol.receive_descriptors(files)
        for answer in _answers(asked, given, counter):
            _send(answers, answer if answer.get("more") else answer | {"peak_bytes": _peak_memory()})
        if chosen.once:
            break
    sys.stderr.flush()
    os._exit(0)


def _channels() -> tuple[BinaryIO, BinaryIO]:
    """The two streams of the protocol, on new descriptors: 1 becomes stderr, so that no print disturbs it."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


def _send(stream: BinaryIO, message: worker_protocol.Message) -> None:
    stream.write(worker_protocol.encode_frame(message))
    stream.flush()


def _can_import(name: str) -> bool:
    try:
        importlib.import_module(name)
    except (ImportError, OSError) as error:
        sys.stderr.write(f"error: {name} cannot be loaded by {sys.executable}: {error}\n")
        return False
    return True


def _answers(asked: Request, given: Sequence[FileIO], counter: Counters) -> Iterator[worker_protocol.Message]:
    """The answer for one file. Any error becomes the file's reason here.

    Args:
        asked: The file and how to read it.
        given: The file, open, and the tokenizer's after it; empty where paths are opened here.
        counter: Gives the token counter of a request.
    """
    limits = asked.limits
    try:
        with ExitStack() as opened:
            files = [opened.enter_context(file) for file in given or [open_source(asked.path, asked.folder)]]
            source = files[0]
            size = os.fstat(source.fileno()).st_size
            _alarm(ceil(WALL_CLOCK_FACTOR * limits.time_for(size)) + _ALARM_GRACE_S)
            if asked.order is None:
                yield worker_protocol.parsed_message(parse_here(asked.path, source, limits))
            else:
                tokenizer = files[1] if len(files) > 1 else None
                yield from _prepare(asked, asked.order, source, lambda order: counter(order, tokenizer))
    except ParseFailed as error:
        yield worker_protocol.failure_message(error)
    except MemoryError:
        limit = f"{limits.memory_bytes / 1e6:,.0f} MB"
        yield worker_protocol.failure_message(ParseFailed(f"needs more memory than the limit of {limit}")) | {
            "retire": True
        }
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0].replace("_", "-")
        remedy = f"install it there: {sys.executable} -m pip install {package}"
        yield worker_protocol.failure_message(
            LibraryMissing(f"needs the package {package}, which the parsers' Python lacks; {remedy}")
        )
    except RecursionError:
        yield worker_protocol.failure_message(ParseFailed("nested too deeply to be read"))
    except Exception as error:
        sys.stderr.write(traceback.format_exc())
        yield worker_protocol.failure_message(
            ParseFailed(f"the parser failed: {type(error).__name__}: {str(error)[:200]}")
        )
    finally:
        _alarm(0)


def _prepare(
    asked: Request, order: ChunkRequest, source: FileIO, counter: Callable[[ChunkRequest], TokenCounter]
) -> Iterator[worker_protocol.Message]:
    """Parse and chunk a file, with a time limit for each step."""
    limits = asked.limits
    try:
        tokens = counter(order)
    except (SlotUnavailable, OSError, ImportError) as error:
        yield worker_protocol.chunking_unavailable_message(str(error))
        return
    format_of(asked.path, source)  # raises for a binary file without reading all of it
    parsed = parse_here(asked.path, source, limits)
    if order.known_sha256 and parsed.sha256 == order.known_sha256:
        yield from worker_protocol.prepared_messages(parsed, None)
        return
    announcement = worker_protocol.chunking_message(parsed)
    _alarm(ceil(WALL_CLOCK_FACTOR * limits.time_to_chunk(announcement["characters"])) + _ALARM_GRACE_S)
    yield announcement
    yield from worker_protocol.prepared_messages(
        parsed, chunk_document(parsed.document, tokens, order.limit, order.name)
    )


def _remembering(open_counter: OpenCounter) -> Counters:
    known: dict[tuple[str, int, str], TokenCounter] = {}

    def counter(order: ChunkRequest, file: FileIO | None) -> TokenCounter:
        key = (order.tokenizer, order.limit, order.stamp)
        if key not in known:
            if len(known) >= _MOST_COUNTERS:
                known.clear()
            known[key] = open_counter(*key, file)
        return known[key]

    return counter


def _alarm(seconds: int) -> None:
    """Have the kernel end this process after some seconds (0: cancel), even inside a library's loop."""
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)


def _peak_memory() -> int:
    """Peak memory of this process, bytes; 0 where unknown.

    Linux's ``ru_maxrss`` outlives ``exec``: a worker started by a process with a large model would count that model as
    its own. ``VmHWM`` belongs to the program that runs now.
    """
    if sys.platform == "linux":
        status = _own_status()
        status.seek(0)
        return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")), 0)
    if sys.platform == "win32":
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


@cache
def _own_status() -> TextIO:
    return open("/proc/self/status", encoding="ascii", errors="replace")


if __name__ == "__main__":
    main()
