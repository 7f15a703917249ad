"""The worker process: requests in on stdin, answers out on stdout, errors on stderr; parses files and chunks them.

It confines itself, imports the document libraries, sends a ready frame, and answers one file at a time until its input
ends. Whatever a file does to it, the pool sees an answer or the end of this process. Started as
``python -u -m indexer.documents.worker``; it reads a model's tokenizer, never a model.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import lru_cache
from io import FileIO
from math import ceil
from typing import Any, BinaryIO, TypeAlias

from indexer.documents import worker_protocol
from indexer.documents.parse import WALL_CLOCK_FACTOR, LibraryMissing, format_of, open_source, parse_here
from indexer.documents.worker_protocol import ChunkRequest, Request, chunk_document
from indexer.errors import ParseFailed, SlotUnavailable
from indexer.models.tokenizer import open_counter
from indexer.text.chunk import TokenCounter

if sys.platform != "win32":
    import resource

# Sandbox ------------------------------------------------------------------------------------------------------------
# What a worker process gives up before the first byte of a document: memory, network, child processes, writing.

_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
_EXTRA_ADDRESS_SPACE = 4 << 30
"""Bytes of address space beyond the memory limit: code, thread stacks and mapped files are not memory in use."""
_FORBIDDEN_EVENTS = frozenset({
    "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg",
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn",
    "urllib.Request",
})  # fmt: skip


def confine(memory_bytes: int) -> str:
    """Limit this process irrevocably; returns how the network is blocked: ``namespace`` or ``blocked``.

    ``namespace`` (Linux, where the kernel permits): no network interface exists for any code of the process.
    ``blocked``: Python code cannot open connections; the libraries are configured not to.
    """
    network = "namespace" if sys.platform == "linux" and _enter_empty_network_namespace() else "blocked"
    sys.addaudithook(_forbid)
    _set_limits(memory_bytes)
    return network


def _enter_empty_network_namespace() -> bool:
    """Move into an empty network namespace: directly as root, else through a new user namespace."""
    unshare = getattr(ctypes.CDLL(None, use_errno=True), "unshare", None)
    if unshare is None:
        return False
    return bool(unshare(_CLONE_NEWNET) == 0 or unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)


def _forbid(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: no connection, no name resolution, no child process; asyncio's socket pair stays allowed."""
    if event in _FORBIDDEN_EVENTS:
        raise PermissionError(f"a parser process may not do this: {event}")


def _set_limits(memory_bytes: int) -> None:
    """Resource limits of POSIX: private memory, no core dump, no file written."""
    if sys.platform == "win32":
        return
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_FSIZE, 0)
    if memory_bytes:
        _set_limit(resource.RLIMIT_DATA, memory_bytes)
        _set_limit(resource.RLIMIT_AS, memory_bytes + _EXTRA_ADDRESS_SPACE)


def _set_limit(kind: int, value: int) -> None:
    assert sys.platform != "win32"
    _, hard = resource.getrlimit(kind)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(kind, (most, most))
    except (ValueError, OSError):
        sys.stderr.write(f"warning: resource limit {kind} could not be set\n")


# Serving ------------------------------------------------------------------------------------------------------------

OpenCounter: TypeAlias = Callable[[str, int, str], TokenCounter]
"""Opens a token counter from the path of a tokenizer's file, a limit and a stamp."""

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
    chosen = options.parse_args(arguments)
    requests, answers = _channels()
    files = None if chosen.files is None else socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=chosen.files)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    network = confine(chosen.memory)
    missing = [name for name in _LIBRARIES if not _can_import(name)]
    missing_for_chunking = [name for name in _CHUNKING_LIBRARIES if not _can_import(name)]
    greeting = {
        "ready": True,
        "pid": os.getpid(),
        "network": network,
        "missing": [*missing, *missing_for_chunking],
        "can_chunk": not missing_for_chunking,
    }
    _send(answers, greeting)
    counter = lru_cache(maxsize=4)(open_counter)
    while (message := worker_protocol.read_frame(requests)) is not None:
        asked = worker_protocol.parse_request(message)
        # An error here ends the process: the next request must not get this one's file.
        source = None if files is None else worker_protocol.receive_descriptor(files)
        for answer in _answers(asked, source, counter):
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


def _answers(asked: Request, given: FileIO | None, counter: OpenCounter) -> Iterator[worker_protocol.Message]:
    """The answer for one file, the given one or, when None, its path. Any error becomes the file's reason here."""
    limits = asked.limits
    try:
        with given or open_source(asked.path, asked.folder) as source:
            size = os.fstat(source.fileno()).st_size
            _alarm(ceil(WALL_CLOCK_FACTOR * limits.time_for(size)) + _ALARM_GRACE_S)
            if asked.order is None:
                yield worker_protocol.parsed_message(parse_here(asked.path, source, limits))
            else:
                yield from _prepare(asked, asked.order, source, counter)
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
    asked: Request, order: ChunkRequest, source: FileIO, counter: OpenCounter
) -> Iterator[worker_protocol.Message]:
    """Parse and chunk a file, with a time limit for each step."""
    limits = asked.limits
    try:
        tokens = counter(order.tokenizer, order.limit, order.stamp)
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
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")), 0)
    if sys.platform == "win32":
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
