"""The parser process: its interpreter, and whether it starts with all its libraries."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from threading import Timer
from typing import Any, BinaryIO, cast

from indexer.documents.worker_process import Launch, NoInterpreter, find_interpreter, launch
from mcp_server import timing
from mcp_server.doctor.finding import Finding


def parser(setting: str | None, greet: Callable[[Launch], tuple[dict[str, Any] | None, str]]) -> Iterator[Finding]:
    """Start one parser process as indexing would, and ask what it lacks.

    Args:
        setting: Interpreter from the environment (``PYTHON_PATH``), None for this one.
        greet: Starts a process; returns its greeting, None without one, and what it wrote to stderr.
    """
    name = "parser"
    try:
        interpreter = find_interpreter(setting)
        started = launch(setting, 0, once=True)
    except NoInterpreter as error:
        yield Finding(name, "failure", str(error), "set PYTHON_PATH to a Python with folder-mcp's packages")
        return
    try:
        greeting, complaint = greet(started)
    except OSError as error:
        remedy = "set PYTHON_PATH to a Python that can be started"
        yield Finding(name, "failure", f"{interpreter} does not start: {error.strerror or error}", remedy)
        return
    if greeting is None:
        said = complaint.strip().splitlines()
        why = said[-1] if said else f"it said nothing within {timing.CHECK_PARSER_S:g} s"
        remedy = "documents are not read; set PYTHON_PATH to a Python 3.11 or newer with folder-mcp's packages"
        yield Finding(name, "failure", f"{interpreter} does not become a parser: {why}", remedy)
        return
    missing = [str(each) for each in greeting.get("missing", ())]
    if missing:
        remedy = f"run: {interpreter} -m pip install {' '.join(missing)}"
        yield Finding(name, "failure", f"{interpreter} lacks {', '.join(missing)}", remedy)
        return
    network = {"namespace": "no network exists for it", "blocked": "its Python code cannot connect"}
    kept = network.get(str(greeting.get("network")), "")
    yield Finding(name, "ok", f"{interpreter} starts with all its libraries" + (f"; {kept}" if kept else ""))


def greeting_of(started: Launch) -> tuple[dict[str, Any] | None, str]:
    """Start a parser, read its greeting, and end it.

    Raises:
        OSError: It cannot be started.
    """
    from indexer.documents import worker_protocol  # noqa: PLC0415

    process = subprocess.Popen(
        started.command,
        cwd=started.directory,
        env=started.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    watchdog = Timer(timing.CHECK_PARSER_S, process.kill)
    watchdog.start()
    try:
        try:
            greeting = worker_protocol.read(cast("BinaryIO", process.stdout))
        except ValueError:  # some other program's output
            greeting = None
        _, complaint = process.communicate()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    return greeting, complaint.decode("utf-8", "replace")
