"""Preparing a model: conversions of its files, done once, so that it loads at all, or faster and in less memory.

``due_preparations`` says which, from files alone. The work is done by a process of its own
(``python -m indexer.models.prepare``): it needs torch, its exporter and memory for the model, and all of that is
freed when it ends. The process reads one request as a line of JSON on stdin and reports progress as lines of JSON on
stdout. When its stdin ends, because its parent has ended, it deletes unfinished work and ends too.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from indexer.errors import SlotUnavailable
from indexer.models import prepared
from indexer.models.loader import RuntimeLoader, quiet_libraries
from indexer.models.locate import Located, Missing, find, find_pickled, module_paths, pickled_files
from indexer.models.prepared import Verdict, delete_parts, export_due
from indexer.models.spec import RuntimeChoice, is_cross_encoder, resolve, resolve_reranker, unavailable
from indexer.slot.embedder import ModelSpec
from indexer.slot.failure import HINTS, classify

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

Report = Callable[[str], None]
"""Called with a description of each stage of the work."""
_NICE = 5
"""Added to the niceness of the process: searches and indexing go on meanwhile."""


@dataclass(frozen=True, slots=True)
class Request:
    """A model to be prepared, and the settings it is to be used with.

    Attributes:
        name: Catalogue name, hub repository, or local directory.
        data_dir: Where conversions are kept.
        hub_cache: The hub's cache directory.
        device: As configured.
        runtime: As configured.
        allow_remote_code: Whether code shipped with this very model may run.
    """

    name: str
    data_dir: str
    hub_cache: str
    device: str = "auto"
    runtime: RuntimeChoice = "auto"
    allow_remote_code: bool = False

    @property
    def directory(self) -> Path:
        """The data directory."""
        return Path(self.data_dir)


@dataclass(frozen=True, slots=True)
class Preparation:
    """A kind of conversion.

    Attributes:
        name: What it makes.
        due: Whether a model needs it, from files alone.
        make: Makes, verifies and records it.
    """

    name: str
    due: Callable[[Request], bool]
    make: Callable[[Request, Report], Verdict]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one preparation; ``reason`` says why it was refused, empty when it was not."""

    name: str
    reason: str


def due_preparations(request: Request) -> tuple[Preparation, ...]:
    """Return the preparations that the model needs now; more may be due when these are done.

    Raises:
        SlotUnavailable: The model is not on this machine, or cannot be prepared; says what to do.
    """
    try:
        located = find(request.name, hub_cache=Path(request.hub_cache), data_dir=request.directory)
        if isinstance(located, Missing) and located.code != "unprepared":
            raise unavailable(located, offline=False)
        return tuple(preparation for preparation in PREPARATIONS if preparation.due(request))
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # configuration files with unexpected content
        reason = f"The files of {request.name} are damaged: {error}"
        raise SlotUnavailable("corrupt_files", reason, HINTS["corrupt_files"]) from error


def prepare(request: Request, report: Report) -> Iterator[Outcome]:
    """Run all preparations that are due, in order; a refused one is the last.

    Raises:
        SlotUnavailable: The model cannot be prepared.
        indexer.slot.failure.ModelRefused: A package is missing, or the disk is full.
        Exception: What the libraries raise; nothing is recorded.
    """
    for preparation in PREPARATIONS:
        if preparation.due(request):
            outcome = preparation.make(request, report)
            yield Outcome(preparation.name, outcome.reason)
            if not outcome.ok:
                return


def spec_of(request: Request) -> ModelSpec:
    """Return the spec with which the model would be loaded now.

    Raises:
        SlotUnavailable: It cannot be loaded.
    """
    data_dir, hub_cache = request.directory, Path(request.hub_cache)
    located = find(request.name, hub_cache=hub_cache, data_dir=data_dir)
    runtime: RuntimeChoice = "torch" if request.runtime == "torch" else "auto"
    device = "cpu" if request.runtime == "onnx" else request.device
    if isinstance(located, Located) and is_cross_encoder(Path(located.directory)):
        return resolve_reranker(request.name, data_dir=data_dir, device=device, runtime=runtime, hub_cache=hub_cache)
    return resolve(
        request.name,
        data_dir=data_dir,
        device=device,
        runtime=runtime,
        allow_remote_code=request.allow_remote_code,
        hub_cache=hub_cache,
    )


def delete_damaged(request: Request) -> bool:
    """Delete a conversion of the model whose files have changed since; it is then due again.

    Raises:
        SlotUnavailable: The model cannot be loaded.
    """
    spec = spec_of(request)
    if Path(spec.directory).parent != request.directory / "models":
        return False
    try:
        prepared.verify(Path(spec.directory), spec.checks)
    except SlotUnavailable:
        shutil.rmtree(spec.directory)
        return True
    return False


def _weights_due(request: Request) -> bool:
    found = find_pickled(request.name, hub_cache=Path(request.hub_cache))
    if found is None:
        return False
    usable = find(request.name, hub_cache=Path(request.hub_cache), data_dir=request.directory)
    if isinstance(usable, Missing):
        return usable.code == "unprepared"
    return usable.directory == found.directory and request.runtime == "torch"  # usable by its ONNX form only


def _convert_weights(request: Request, report: Report) -> Verdict:
    found = find_pickled(request.name, hub_cache=Path(request.hub_cache))
    if found is None:
        raise SlotUnavailable("offline_missing", f"The pickled weights of {request.name} are gone.", "Pull it again.")
    directory = Path(found.directory)
    from indexer.models.convert import convert_weights  # noqa: PLC0415 - imports torch; others only ask what is due

    return convert_weights(directory, pickled_files(directory), module_paths(directory), request.directory, report)


def _export_due(request: Request) -> bool:
    if request.runtime == "torch":  # the user's choice
        return False
    try:
        return export_due(spec_of(request), request.directory)
    except SlotUnavailable as problem:
        if problem.code == "unprepared":
            return False
        raise


def _export(request: Request, report: Report) -> Verdict:
    from indexer.models.convert import export_onnx  # noqa: PLC0415 - as above

    return export_onnx(spec_of(request), RuntimeLoader(), request.directory, report)


PREPARATIONS = (
    Preparation("safetensors", _weights_due, _convert_weights),
    Preparation("ONNX form", _export_due, _export),
)
"""In this order: a later one works on what the ones before have made."""


@contextmanager
def preparation_lock(data_dir: Path) -> Iterator[None]:
    """Hold the lock of a data directory's preparations; the system releases it when the process dies.

    Raises:
        SlotUnavailable: Another process holds it.
    """
    (data_dir / "models").mkdir(parents=True, exist_ok=True)
    fd = os.open(data_dir / "models" / "prepare.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(fd)
    except OSError:
        os.close(fd)
        message = f"Another process prepares a model in {data_dir} already."
        raise SlotUnavailable("busy", message, "Run it again when that one has ended.") from None
    try:
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def main() -> None:
    """Answer the request on stdin, in lines of ``stage``, ``made`` and ``reason``, or ``failed``."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print to stdout, which belongs to the answers
    if hasattr(os, "nice"):
        os.nice(_NICE)
    quiet_libraries()
    request = Request(**json.loads(sys.stdin.readline()))
    try:
        with preparation_lock(request.directory):
            delete_parts(request.directory)  # left by a process that was killed
            threading.Thread(target=_end_with, args=(sys.stdin.fileno(), request.directory), daemon=True).start()
            for outcome in prepare(request, lambda stage: _tell(answers, stage=stage)):
                _tell(answers, made=outcome.name, reason=outcome.reason)
    except SlotUnavailable as problem:
        _tell(answers, failed=problem.code, message=str(problem), hint=problem.hint)
    except Exception as error:  # the libraries raise anything; classified as in the slot
        found = classify(error)
        _tell(answers, failed=found.code, message=found.message, hint=found.hint)


def _end_with(stdin: int, data_dir: Path) -> None:
    while os.read(stdin, 1024):  # not through ``sys.stdin``, whose lock would be held when this process ends
        pass
    delete_parts(data_dir)
    os._exit(1)


def _tell(answers: TextIO, **fields: Any) -> None:
    answers.write(json.dumps(fields) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # a regular exit takes torch seconds and changes nothing
