"""The process that prepares a model (``indexer.models.prepare``): started, listened to, ended with this one.

It holds our end of its stdin: when this process ends, however it ends, the other one does.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import IO, Any

from indexer.errors import SlotUnavailable
from indexer.models.prepare import Outcome, Request, alone
from indexer.models.prepared import delete_parts
from indexer.slot.failure import HINTS
from mcp_server.processes.spawn import user_environment

log = logging.getLogger(__name__)

_NEW_GROUP = 0x00000200  # Windows: CREATE_NEW_PROCESS_GROUP
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONIOENCODING": "utf-8"}


def run(request: Request, environ: Mapping[str, str], said: Callable[[str], None]) -> list[Outcome]:
    """Prepare a model in a process of its own and wait for it; Ctrl-C ends it and leaves nothing unfinished.

    Args:
        request: What to prepare.
        environ: Our environment; the process gets the user's part of it.
        said: Called with each stage of the work, in words.

    Returns:
        What became of each preparation that was due.

    Raises:
        SlotUnavailable: It could not be prepared; says why and what to do.
    """
    process = _start(environ)
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    logging_thread = threading.Thread(target=_log, args=(process.stderr,), daemon=True)
    logging_thread.start()
    try:
        return _listen(process, request, said)
    finally:
        process.kill()
        process.wait()
        logging_thread.join()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with suppress(BrokenPipeError):  # of a request that it did not live to read
                pipe.close()
        _delete_rest(request)


def _start(environ: Mapping[str, str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "indexer.models.prepare"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=user_environment(environ) | _OFFLINE,
            cwd=os.path.abspath(os.sep),
            encoding="utf-8",
            errors="replace",
            start_new_session=sys.platform != "win32",  # Ctrl-C is ours to act upon
            creationflags=_NEW_GROUP if sys.platform == "win32" else 0,
        )
    except OSError as error:
        reason = f"The process that prepares models cannot be started: {error.strerror or error}."
        raise SlotUnavailable("internal", reason, HINTS["internal"]) from error


def _listen(process: subprocess.Popen[str], request: Request, said: Callable[[str], None]) -> list[Outcome]:
    assert process.stdin is not None and process.stdout is not None
    outcomes: list[Outcome] = []
    try:
        process.stdin.write(json.dumps(asdict(request)) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it has ended already: below
    for line in process.stdout:
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise SlotUnavailable(answer["failed"], answer["message"], answer["hint"])
        if "made" in answer:
            outcomes.append(Outcome(answer["made"], answer["reason"]))
        else:
            said(answer["stage"])
    code = process.wait()
    if code != 0:
        raise _ended(code, request.name)
    return outcomes


def _ended(code: int, name: str) -> SlotUnavailable:
    """The error for a process that ended without saying why."""
    if code == -9:  # SIGKILL, a name that Windows does not have
        reason = f"The process that prepares {name} was killed, perhaps because memory ran out."
        return SlotUnavailable("out_of_memory_host", reason, HINTS["out_of_memory_host"])
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return SlotUnavailable("internal", f"The process that prepares {name} ended {how}.", HINTS["internal"])


def _log(stderr: IO[str]) -> None:
    for line in stderr:
        if line.strip():
            log.info("preparing: %s", line.rstrip())


def _delete_rest(request: Request) -> None:
    """Delete what a killed process left, unless another is at work there now."""
    try:
        with alone(request.directory):
            delete_parts(request.directory)
    except (SlotUnavailable, OSError) as error:
        log.info("nothing deleted in %s: %s", request.data_dir, error)
