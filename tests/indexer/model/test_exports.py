from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import HIDDEN, write_json, write_modules, write_mpnet

from indexer.model import exports
from indexer.model.embedder import Embedder, ModelSpec, Progress
from indexer.model.export_steps import MOST_DEATHS, spared, steps
from indexer.model.exports import FIXED_TEXTS, Draft, drafted, due, judge, verdict
from indexer.model.failure import ModelRefused, Stopped
from indexer.model.loading import RuntimeLoader
from indexer.model.specs import resolve

SPEC = ModelSpec(name="m", key="m_0123456789", directory="/nowhere", dim=4, max_tokens=32, runtime="onnx")


class Copy:
    """An export whose vectors are given; ``drift`` is added to every text that is not alone."""

    def __init__(self, rows: Any, drift: float = 0.0) -> None:
        self.rows, self.drift, self.spec = rows, drift, SPEC

    def embed_passages(self, texts: Sequence[str]) -> Any:
        rows = np.stack([self.rows[FIXED_TEXTS.index(text)] for text in texts])
        return rows + self.drift if len(texts) > 1 else rows

    def embed_query(self, text: str) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        return


@pytest.fixture
def rows() -> Any:
    made = np.random.default_rng(0).normal(size=(len(FIXED_TEXTS), 4)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    part = tmp_path / "models" / f"{SPEC.key}.part"
    part.mkdir(parents=True)
    (part / "model.onnx").write_bytes(b"graph")
    return tmp_path


def test_equal_vectors_pass_and_are_kept_with_their_proof(data: Path, rows: Any) -> None:
    outcome = judge(Copy(rows), Draft(SPEC, rows), data)
    assert outcome.ok
    assert outcome.cosine == pytest.approx(1.0)
    home, kept = exports.exported(data, SPEC.key) or (None, None)
    assert home == data / "models" / SPEC.key
    assert kept == outcome == verdict(data, SPEC.key)
    assert [name for name, _ in outcome.checks] == ["model.onnx"]
    assert dict(outcome.versions).keys() >= {"torch", "onnx", "onnxruntime"}
    assert not due(replace(SPEC, runtime="torch"), data)


def test_other_vectors_are_refused_and_the_refusal_is_kept(data: Path, rows: Any) -> None:
    torch_spec = replace(SPEC, runtime="torch")
    assert due(torch_spec, data)
    turned = rows.copy()
    turned[3] = np.roll(rows[3], 1)
    outcome = judge(Copy(turned), Draft(SPEC, rows), data)
    assert not outcome.ok
    assert "differ from torch's" in outcome.reason
    assert exports.exported(data, SPEC.key) is None
    assert verdict(data, SPEC.key) == outcome
    assert not due(torch_spec, data), "a refused export is never made again"
    assert not list((data / "models").glob("**/model.onnx")), "nothing of it stays on the disk"


def test_vectors_that_depend_on_the_batch_are_refused(data: Path, rows: Any) -> None:
    assert judge(Copy(rows, drift=5e-5), Draft(SPEC, rows), data).ok
    (data / "models" / f"{SPEC.key}.part").mkdir()
    outcome = judge(Copy(rows, drift=2e-4), Draft(SPEC, rows), data)
    assert "depend on what else is in the batch" in outcome.reason


def test_undefined_numbers_are_refused(data: Path, rows: Any) -> None:
    assert not judge(Copy(np.full_like(rows, np.nan)), Draft(SPEC, rows), data).ok


def test_only_torch_on_the_cpu_needs_an_export(tmp_path: Path) -> None:
    assert due(replace(SPEC, runtime="torch"), tmp_path)
    assert not due(SPEC, tmp_path)
    assert not due(replace(SPEC, runtime="torch", device="cuda"), tmp_path)


def make(spec: ModelSpec, loader: Any, data_dir: Path) -> Any:
    """Take every step, as the slot does when nobody comes."""
    work = steps(spec, loader, data_dir, lambda _stage, _done: None, lambda: False)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


class OnlyCopies:
    """A loader for the second half: loads exports, whose vectors are given, or raises."""

    def __init__(self, rows: Any, error: Exception | None = None) -> None:
        self.rows, self.error, self.loads = rows, error, 0

    def load(self, spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Copy:
        assert spec.runtime == "onnx", "the first half is done already"
        self.loads += 1
        if self.error is not None:
            raise self.error
        return Copy(self.rows)

    def release(self) -> None:
        return


def write_first_half(data: Path, rows: Any) -> None:
    with (data / "models" / f"{SPEC.key}.part" / "expected.npy").open("wb") as file:
        np.save(file, rows)


def test_a_second_half_goes_on_from_what_lies_on_the_disk(data: Path, rows: Any) -> None:
    assert drafted(SPEC, data) is None
    write_first_half(data, rows)
    loader = OnlyCopies(rows)
    outcome = make(replace(SPEC, runtime="torch"), loader, data)
    assert (outcome.ok, loader.loads) == (True, 1)
    home = data / "models" / SPEC.key
    assert sorted(file.name for file in home.iterdir()) == ["export.json", "model.onnx"]


def test_an_export_that_onnx_runtime_cannot_load_is_refused(data: Path, rows: Any) -> None:
    write_first_half(data, rows)
    loader = OnlyCopies(rows, RuntimeError("INVALID_GRAPH: This is an invalid model."))
    outcome = make(replace(SPEC, runtime="torch"), loader, data)
    assert "cannot load it" in outcome.reason
    assert verdict(data, SPEC.key) == outcome


@pytest.mark.parametrize("error", [ModelRefused("disk_full", "The disk is full."), MemoryError(), Stopped()])
def test_what_is_not_the_exports_fault_is_not_held_against_it(data: Path, rows: Any, error: Exception) -> None:
    write_first_half(data, rows)
    with pytest.raises(type(error)):
        make(replace(SPEC, runtime="torch"), OnlyCopies(rows, error), data)
    assert verdict(data, SPEC.key) is None
    assert make(replace(SPEC, runtime="torch"), OnlyCopies(rows), data).ok


def test_an_export_that_ends_the_program_again_and_again_is_refused(data: Path, rows: Any) -> None:
    def die() -> None:
        work = steps(SPEC, OnlyCopies(rows), data, lambda _stage, _done: None, lambda: False)
        next(work)
        marks.append((data / "models" / f"{SPEC.key}.begun").read_text(encoding="utf-8"))
        work.close()
        (data / "models" / f"{SPEC.key}.begun").write_text(marks[-1], encoding="utf-8")  # as if close never came

    write_first_half(data, rows)
    marks: list[str] = []
    for _ in range(MOST_DEATHS):
        die()
    assert marks == ["1", "2", "3"]
    outcome = make(SPEC, OnlyCopies(rows), data)
    assert "3 times" in outcome.reason
    assert verdict(data, SPEC.key) == outcome
    assert not list((data / "models").glob("*.begun"))


def test_a_closing_program_does_not_count_as_dying(data: Path, rows: Any) -> None:
    write_first_half(data, rows)
    work = steps(SPEC, OnlyCopies(rows), data, lambda _stage, _done: None, lambda: False)
    next(work)
    spared(data, SPEC.key)
    assert not list((data / "models").glob("*.begun"))
    work.close()


class Watched(RuntimeLoader):
    """The real loader, keeping count of the models that are open."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.open = self.most = 0

    def load(self, spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Embedder:
        model = super().load(spec, progress, stopped)
        self.log.append(spec.runtime)
        self.open += 1
        self.most = max(self.most, self.open)
        close = model.close

        def closing() -> None:
            self.open -= 1
            close()

        model.close = closing  # type: ignore[method-assign]
        return model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_model_only_torch_can_load_is_exported_once_and_then_served_without_torch(tmp_path: Path) -> None:
    directory, data = write_mpnet(tmp_path / "m"), tmp_path / "data"
    write_json(directory / "2_Dense" / "config.json", {"in_features": HIDDEN, "out_features": 8, "bias": True,
               "activation_function": "torch.nn.modules.activation.Tanh"})  # fmt: skip
    import torch
    from safetensors.torch import save_file

    weight = {"linear.weight": torch.randn(8, HIDDEN), "linear.bias": torch.randn(8)}
    save_file(weight, directory / "2_Dense" / "model.safetensors")
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"), ("3_Normalize", "Normalize")]
    write_modules(directory, [(p, f"sentence_transformers.models.{k}") for p, k in kinds])
    spec = resolve(str(directory), device="cpu", data_dir=data)
    assert (spec.runtime, spec.dim, due(spec, data)) == ("torch", 8, True)
    loader = Watched()
    outcome = make(spec, loader, data)
    assert outcome.ok, outcome.reason
    assert (loader.log, loader.most, loader.open) == (["torch", "onnx"], 1, 0)
    now = resolve(str(directory), device="cpu", data_dir=data)
    assert (now.runtime, now.key, now.directory) == ("onnx", spec.key, str(data / "models" / spec.key))
    assert not due(now, data)
    texts = ["the lease", "how long is the notice period " * 3, "valve"]
    rows = []
    for which in (spec, now):
        model = RuntimeLoader().load(which, lambda _stage, _done: None, lambda: False)
        rows.append(model.embed_passages(texts))
        model.close()
    assert (rows[0] * rows[1]).sum(axis=1).min() > 0.9999
    record = json.loads((data / "models" / spec.key / "export.json").read_text(encoding="utf-8"))
    assert record["cosine"] > 0.999


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_chain_that_cannot_be_exported_is_refused_with_the_reason(tmp_path: Path) -> None:
    directory, data = write_mpnet(tmp_path / "m"), tmp_path / "data"
    pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True, "include_prompt": False}
    write_json(directory / "1_Pooling" / "config.json", pooling)
    spec = resolve(str(directory), device="cpu", data_dir=data)
    outcome = make(spec, RuntimeLoader(), data)
    assert not outcome.ok
    assert "chain of modules" in outcome.reason
    assert not due(spec, data)
