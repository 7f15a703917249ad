"""Making an ONNX form, in steps short enough that a tool call can wait for one: the work of ``ModelSlot.occupy``.

Two halves: torch writes the form, then ONNX Runtime loads it and is compared. The first half's outcome lies on the
disk, so work that had to make room (or ended with the process) goes on with the second.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path

from indexer.model.embedder import Embedder, Loader, ModelSpec, Progress, embedding
from indexer.model.exports import Draft, Verdict, draft, drafted, judge, refuse
from indexer.model.failure import Stopped, classify
from indexer.model.memory import Recipe, give_back

MOST_DEATHS = 3
"""Processes that may end in the middle of making one form: more, and it is what ends them (out of memory, a crash)."""
UNLOADABLE = frozenset({"incompatible", "corrupt_files", "internal"})
"""What a load says of a form that is at fault itself."""


def steps(
    spec: ModelSpec, loader: Loader, data_dir: Path, progress: Progress, stopped: Callable[[], bool]
) -> Generator[None, None, Verdict]:
    """Export, compare and record the model ``spec`` (torch). Each ``next`` is one job for the model thread.

    The torch model is gone before the export is loaded: never are two alive, and none is once this is closed. A
    model that torch cannot export is refused, with the reason, like one whose vectors differ.

    Raises:
        Stopped: ``stopped`` was true while a model was being loaded; nothing is recorded.
        ModelRefused: A package is missing or the disk is full; nothing is recorded.
        OSError: The data directory cannot be written.
        Exception: Whatever loading the model raises; nothing is recorded.
    """
    begun = _begun(data_dir, spec.key)
    deaths = _deaths(begun)
    if deaths >= MOST_DEATHS:
        spared(data_dir, spec.key)
        return refuse(data_dir, spec.key, f"the program ended {deaths} times while it was being made")
    begun.parent.mkdir(parents=True, exist_ok=True)
    begun.write_text(str(deaths + 1), encoding="utf-8")
    try:
        made = drafted(spec, data_dir) or (yield from _write(spec, loader, data_dir, progress, stopped))
        if isinstance(made, Verdict):
            return made
        return (yield from _compare(made, loader, data_dir, progress, stopped))
    finally:
        spared(data_dir, spec.key)


def spared(data_dir: Path, key: str) -> None:
    """Note that making ``key`` did not end this process: it was finished, made room, or the program is closing."""
    _begun(data_dir, key).unlink(missing_ok=True)


def _write(
    spec: ModelSpec, loader: Loader, data_dir: Path, progress: Progress, stopped: Callable[[], bool]
) -> Generator[None, None, Draft | Verdict]:
    from indexer.model.torch_runtime import TorchEmbedder  # noqa: PLC0415

    box = [_load(replace(spec, runtime="torch"), loader, progress, stopped, "loading for torch", 0.0)]
    try:
        yield
        progress("writing the ONNX form", 0.3)
        if not isinstance(box[0], TorchEmbedder):
            raise TypeError(f"only a torch model can be exported, not {type(box[0]).__name__}")
        outcome = draft(box[0], data_dir)
    finally:
        _drop(box, loader)
    yield
    return outcome


def _compare(
    made: Draft, loader: Loader, data_dir: Path, progress: Progress, stopped: Callable[[], bool]
) -> Generator[None, None, Verdict]:
    try:
        box = [_load(made.spec, loader, progress, stopped, "loading the ONNX form", 0.6)]
    except Stopped:
        raise
    except Exception as error:  # whatever a runtime raises of a graph it cannot run; recorded as a sentence
        found = classify(error)
        if found.code not in UNLOADABLE:
            raise
        return refuse(data_dir, made.spec.key, f"ONNX Runtime cannot load it: {found.message}")
    try:
        yield
        progress("comparing", 0.8)
        return judge(box[0], made, data_dir)
    finally:
        _drop(box, loader)


def _load(
    spec: ModelSpec, loader: Loader, progress: Progress, stopped: Callable[[], bool], stage: str, share: float
) -> Embedder:
    return embedding(loader.load(spec, partial(_within, progress, stage, share), stopped))


def _within(progress: Progress, stage: str, share: float, part: str, done: float) -> None:
    progress(f"{stage}: {part}", share + 0.2 * done)


def _drop(box: list[Embedder], loader: Loader) -> None:
    """Close the model and free it: a module graph is cyclic, so only a collection makes it go."""
    box[0].close()
    box.clear()
    give_back(loader, Recipe())


def _begun(data_dir: Path, key: str) -> Path:
    return data_dir / "models" / f"{key}.begun"


def _deaths(begun: Path) -> int:
    try:
        return int(begun.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
