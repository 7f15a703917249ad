from __future__ import annotations

import errno
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import HIDDEN, write_json, write_modules, write_mpnet

from indexer.models import convert, prepared
from indexer.models.convert import FIXED_TEXTS, compare, export_onnx
from indexer.models.loader import RuntimeLoader
from indexer.models.prepared import EXPORT_RECORD, export_due, find_prepared, read_verdict
from indexer.models.spec import resolve
from indexer.slot.embedder import Embedder, ModelSpec, Progress
from indexer.slot.failure import ModelRefused

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


def test_equal_vectors_pass(rows: Any) -> None:
    outcome = compare(Copy(rows), rows)
    assert outcome.ok
    assert outcome.cosine == pytest.approx(1.0)
    assert dict(outcome.versions).keys() >= {"torch", "onnx", "onnxruntime"}


def test_other_vectors_are_refused(rows: Any) -> None:
    turned = rows.copy()
    turned[3] = np.roll(rows[3], 1)
    outcome = compare(Copy(turned), rows)
    assert not outcome.ok
    assert "differ from torch's" in outcome.reason


def test_vectors_that_depend_on_the_batch_are_refused(rows: Any) -> None:
    assert compare(Copy(rows, drift=5e-5), rows).ok
    assert "depend on what else is in the batch" in compare(Copy(rows, drift=2e-4), rows).reason


def test_undefined_numbers_are_refused(rows: Any) -> None:
    assert not compare(Copy(np.full_like(rows, np.nan)), rows).ok


def test_only_torch_on_the_cpu_needs_an_export(tmp_path: Path) -> None:
    assert export_due(replace(SPEC, runtime="torch"), tmp_path)
    assert not export_due(SPEC, tmp_path)
    assert not export_due(replace(SPEC, runtime="torch", device="cuda"), tmp_path)
    assert not export_due(replace(SPEC, runtime="torch", kind="reranker"), tmp_path)


class FakeTorch:
    """A torch model whose vectors are given."""

    def __init__(self, spec: ModelSpec, rows: Any) -> None:
        self.spec, self.rows = spec, rows

    @property
    def module(self) -> Any:
        return None

    def embed_passages(self, texts: Sequence[str]) -> Any:
        assert tuple(texts) == FIXED_TEXTS
        return self.rows

    def close(self) -> None:
        return


class GivenModels:
    """A loader of both runtimes' models, whose vectors are given; loading the ONNX form may raise."""

    def __init__(self, rows: Any, error: Exception | None = None) -> None:
        self.rows, self.error = rows, error
        self.loads: list[str] = []

    def load(self, spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Any:
        self.loads.append(spec.runtime)
        if spec.runtime == "torch":
            return FakeTorch(spec, self.rows)
        assert (Path(spec.directory) / "model.onnx").is_file(), "it is compared before it appears under its name"
        if self.error is not None:
            raise self.error
        return Copy(self.rows)

    def release(self) -> None:
        return


@pytest.fixture
def source(tmp_path: Path) -> ModelSpec:
    """A model that torch serves, and an exporter that writes five bytes."""
    directory = tmp_path / "m"
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(b"weights")
    write_json(directory / "config.json", {"model_type": "mpnet"})
    write_json(directory / "tokenizer.json", {})
    return replace(SPEC, runtime="torch", directory=str(directory))


@pytest.fixture(autouse=True)
def quick_exporter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(convert, "write_onnx", lambda model, file, max_tokens: file.write_bytes(b"graph"))


def quiet(stage: str) -> None:
    assert stage


def test_a_form_that_passed_is_kept_with_its_proof_and_never_made_again(
    tmp_path: Path, source: ModelSpec, rows: Any
) -> None:
    data, stages = tmp_path / "data", []
    outcome = export_onnx(source, GivenModels(rows), data, stages.append)
    assert stages == [
        "loading the model with torch", "writing the ONNX form", "loading the ONNX form", "comparing it with torch",
    ]  # fmt: skip
    home, kept = find_prepared(data, SPEC.key, EXPORT_RECORD) or (None, None)
    assert home == data / "models" / SPEC.key
    assert kept == outcome == read_verdict(data, SPEC.key, EXPORT_RECORD)
    assert [name for name, _ in outcome.checks] == ["model.onnx"]
    assert sorted(file.name for file in home.iterdir()) == [
        "config.json", "export.json", "model.onnx", "tokenizer.json",
    ]  # fmt: skip
    assert not export_due(source, data)
    assert [file.name for file in (data / "models").iterdir()] == [SPEC.key], "no part is left"


def test_a_refusal_is_kept_alone_and_nothing_is_made_again(tmp_path: Path, source: ModelSpec, rows: Any) -> None:
    data = tmp_path / "data"
    assert export_due(source, data)

    class Turned(GivenModels):
        def load(self, spec: ModelSpec, progress: Progress, stopped: Callable[[], bool]) -> Any:
            model = super().load(spec, progress, stopped)
            model.rows = model.rows if spec.runtime == "torch" else -self.rows
            return model

    outcome = export_onnx(source, Turned(rows), data, quiet)
    assert find_prepared(data, SPEC.key, EXPORT_RECORD) is None
    assert read_verdict(data, SPEC.key, EXPORT_RECORD) == outcome
    assert not export_due(source, data)
    assert [file.name for file in (data / "models" / SPEC.key).iterdir()] == ["export.json"]


def test_an_export_that_onnx_runtime_cannot_load_is_refused(tmp_path: Path, source: ModelSpec, rows: Any) -> None:
    data = tmp_path / "data"
    loader = GivenModels(rows, RuntimeError("INVALID_GRAPH: This is an invalid model."))
    outcome = export_onnx(source, loader, data, quiet)
    assert "cannot load it" in outcome.reason
    assert read_verdict(data, SPEC.key, EXPORT_RECORD) == outcome


@pytest.mark.parametrize("error", [ModelRefused("disk_full", "The disk is full."), MemoryError()])
def test_what_is_not_the_exports_fault_is_not_held_against_it(
    tmp_path: Path, source: ModelSpec, rows: Any, error: Exception
) -> None:
    data = tmp_path / "data"
    with pytest.raises(type(error)):
        export_onnx(source, GivenModels(rows, error), data, quiet)
    assert read_verdict(data, SPEC.key, EXPORT_RECORD) is None and export_due(source, data)
    assert list((data / "models").iterdir()) == []
    assert export_onnx(source, GivenModels(rows), data, quiet).ok


def test_a_disk_that_is_full_before_the_export_is_named(
    tmp_path: Path, source: ModelSpec, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "MARGIN", 1 << 60)
    loader = GivenModels(rows)
    with pytest.raises(ModelRefused, match=r"The ONNX form of m needs \d+ MiB") as caught:
        export_onnx(source, loader, tmp_path / "data", quiet)
    assert (caught.value.code, loader.loads) == ("disk_full", [])


def test_a_disk_that_fills_up_in_the_middle_leaves_nothing(
    tmp_path: Path, source: ModelSpec, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(model: Any, file: Path, max_tokens: int) -> None:
        file.write_bytes(b"gr")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(convert, "write_onnx", full)
    with pytest.raises(OSError, match="No space"):
        export_onnx(source, GivenModels(rows), tmp_path / "data", quiet)
    assert list((tmp_path / "data" / "models").iterdir()) == []


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
    assert (spec.runtime, spec.dim, export_due(spec, data)) == ("torch", 8, True)
    loader = Watched()
    outcome = export_onnx(spec, loader, data, quiet)
    assert outcome.ok, outcome.reason
    assert (loader.log, loader.most, loader.open) == (["torch", "onnx"], 1, 0)
    now = resolve(str(directory), device="cpu", data_dir=data)
    assert (now.runtime, now.key, now.directory) == ("onnx", spec.key, str(data / "models" / spec.key))
    assert not export_due(now, data)
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
    outcome = export_onnx(spec, RuntimeLoader(), data, quiet)
    assert not outcome.ok
    assert "chain of modules" in outcome.reason
    assert not export_due(spec, data)
