"""Preparing a model: what can be made of its files, once, so that it loads at all, or sooner and in less memory.

``due`` says what, from files alone. The work is done by a process of its own (``python -m indexer.models.prepare``):
it needs torch, its exporter, and memory for the model, and all of that is gone with it. The process reads one
request as a line of JSON on stdin and tells how far it is in lines of JSON on stdout. It ends, with everything
unfinished deleted, when its stdin does: that is the end of whoever asked.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from indexer.errors import SlotUnavailable
from indexer.models import export, prepared
from indexer.models.locate import Located, Missing, find, find_pickled, module_paths, pickled_files
from indexer.models.prepared import Verdict, delete_parts
from indexer.models.spec import RuntimeChoice, is_cross_encoder, resolve, resolve_reranker, unavailable
from indexer.slot.embedder import ModelSpec
from indexer.slot.failure import HINTS, classify

Said = Callable[[str], None]
"""Called with each stage of the work, in words."""
_NICE = 5
"""Steps below the other processes: searches and indexing go on meanwhile."""


@dataclass(frozen=True, slots=True)
class Request:
    """A model to be prepared, and what it will have to run on.

    Attributes:
        name: Catalogue name, hub repository, or local directory.
        data_dir: Where what is made is kept.
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
    """One thing that can be made of a model.

    Attributes:
        name: What it makes.
        due: Whether it is to be made, from files alone.
        make: Makes, verifies and records it.
    """

    name: str
    due: Callable[[Request], bool]
    make: Callable[[Request, Said], Verdict]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one preparation; ``reason`` says why it was refused, empty when it was not."""

    name: str
    reason: str


def due(request: Request) -> tuple[Preparation, ...]:
    """Return what is to be made of the model as its files are now; more may follow when that is made.

    Raises:
        SlotUnavailable: The model is not on this machine, or cannot be prepared; says what to do.
    """
    try:
        located = find(request.name, hub_cache=Path(request.hub_cache), data_dir=request.directory)
        if isinstance(located, Missing) and located.code != "unprepared":
            raise unavailable(located, offline=False)
        return tuple(preparation for preparation in PREPARATIONS if preparation.due(request))
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # configuration files of odd content
        reason = f"The files of {request.name} are damaged: {error}"
        raise SlotUnavailable("corrupt_files", reason, HINTS["corrupt_files"]) from error


def prepare(request: Request, said: Said) -> Iterator[Outcome]:
    """Make one thing after the other until nothing is due; what was refused ends it.

    Raises:
        SlotUnavailable: The model cannot be prepared.
        indexer.slot.failure.ModelRefused: A package is missing, or the disk is full.
        Exception: What the libraries raise; nothing is recorded then.
    """
    for preparation in PREPARATIONS:
        if preparation.due(request):
            outcome = preparation.make(request, said)
            yield Outcome(preparation.name, outcome.reason)
            if not outcome.ok:
                return


def spec_of(request: Request) -> ModelSpec:
    """Return what would load the model now.

    Raises:
        SlotUnavailable: Nothing would.
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
    """Delete what was made for the model if it is no longer as it was made; it is then due again.

    Raises:
        SlotUnavailable: The model cannot be had.
    """
    spec = spec_of(request)
    if Path(spec.directory).parent != request.directory / "models":
        return False
    try:
        prepared.verify(Path(spec.directory), spec.checks)
    except SlotUnavailable:
        import shutil  # noqa: PLC0415 - damage is rare

        shutil.rmtree(spec.directory)
        return True
    return False


def _weights_due(request: Request) -> bool:
    found = find_pickled(request.name, hub_cache=Path(request.hub_cache))
    if found is None:
        return False
    now = find(request.name, hub_cache=Path(request.hub_cache), data_dir=request.directory)
    if isinstance(now, Missing):
        return now.code == "unprepared"
    return now.directory == found.directory and request.runtime == "torch"  # there is an ONNX form as well


def _convert(request: Request, said: Said) -> Verdict:
    found = find_pickled(request.name, hub_cache=Path(request.hub_cache))
    if found is None:
        raise SlotUnavailable("offline_missing", f"The pickled weights of {request.name} are gone.", "Pull it again.")
    directory = Path(found.directory)
    files, modules = pickled_files(directory), module_paths(directory)
    return prepared.convert(directory, files, modules, request.directory, said)


def _export_due(request: Request) -> bool:
    if request.runtime == "torch":  # the user's choice
        return False
    try:
        return export.due(spec_of(request), request.directory)
    except SlotUnavailable as problem:
        if problem.code == "unprepared":
            return False
        raise


def _export(request: Request, said: Said) -> Verdict:
    from indexer.models.loader import RuntimeLoader  # noqa: PLC0415 - a process that only asks loads nothing

    return export.export(spec_of(request), RuntimeLoader(), request.directory, said)


PREPARATIONS = (
    Preparation("safetensors", _weights_due, _convert),
    Preparation("ONNX form", _export_due, _export),
)
"""In this order: what comes later is made of what was made before."""


@contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """Hold the right to prepare models in a data directory; the kernel drops it when its holder dies.

    Raises:
        SlotUnavailable: Another process has it.
    """
    (data_dir / "models").mkdir(parents=True, exist_ok=True)
    fd = os.open(data_dir / "models" / "prepare.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(fd)
    except OSError:
        os.close(fd)
        said = f"Another process prepares a model in {data_dir} already."
        raise SlotUnavailable("busy", said, "Run it again when that one has ended.") from None
    try:
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> None:
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415

        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl  # noqa: PLC0415

        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def main() -> None:
    """Answer the request on stdin, in lines of ``stage``, ``made`` and ``reason``, or ``failed``."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    if hasattr(os, "nice"):
        os.nice(_NICE)
    request = Request(**json.loads(sys.stdin.readline()))
    try:
        with alone(request.directory):
            delete_parts(request.directory)  # of a process that was killed
            threading.Thread(target=_end_with, args=(sys.stdin.fileno(), request.directory), daemon=True).start()
            for outcome in prepare(request, lambda stage: _tell(answers, stage=stage)):
                _tell(answers, made=outcome.name, reason=outcome.reason)
    except SlotUnavailable as problem:
        _tell(answers, failed=problem.code, message=str(problem), hint=problem.hint)
    except Exception as error:  # whatever the libraries raise, named as at the slot
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
    os._exit(0)  # an orderly end of torch takes seconds and changes nothing
