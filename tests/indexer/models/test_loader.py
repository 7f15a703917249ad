from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import write_bert

from indexer.models.loader import RuntimeLoader
from indexer.models.spec import resolve
from indexer.slot.embedder import ModelSpec
from indexer.slot.failure import ModelRefused, Stopped, classify

STAGES = ["runtime", "files", "tokenizer", "weights", "self-test"]


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return resolve(str(write_bert(tmp_path)), device="cpu")


def refused(spec: ModelSpec) -> ModelRefused:
    with pytest.raises(ModelRefused) as caught:
        RuntimeLoader().load(spec, lambda _stage, _done: None, lambda: False)
    return caught.value


def test_a_load_passes_its_stages_in_order(spec: ModelSpec) -> None:
    seen: list[str] = []
    model = RuntimeLoader().load(spec, lambda stage, _done: seen.append(stage), lambda: False)
    assert list(dict.fromkeys(seen)) == STAGES
    assert model.embed_query("lease").shape == (spec.dim,)


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_a_load_nobody_wants_ends_after_the_stage(spec: ModelSpec, stage: str) -> None:
    seen: list[str] = []
    with pytest.raises(Stopped):
        RuntimeLoader().load(spec, lambda name, _done: seen.append(name), lambda: stage in seen)
    assert seen[-1] == stage


def test_files_with_another_hash_are_refused(spec: ModelSpec) -> None:
    error = refused(replace(spec, checks=(("model.safetensors", "00" * 32),)))
    assert error.code == "corrupt_files"
    assert classify(error).code == "corrupt_files"


def test_files_that_vanished_after_the_resolve_are_named(spec: ModelSpec) -> None:
    (Path(spec.directory) / "tokenizer.json").unlink()
    assert refused(spec).code == "offline_missing"


def test_a_model_of_another_length_than_promised_is_refused(spec: ModelSpec) -> None:
    with pytest.raises(ValueError, match=r"numbers|broadcast"):
        RuntimeLoader().load(replace(spec, dim=spec.dim + 1), lambda _stage, _done: None, lambda: False)


@pytest.mark.slow
def test_the_cpus_runtime_imports_neither_torch_nor_transformers(spec: ModelSpec) -> None:
    code = (
        "import sys\n"
        "from indexer.models.loader import RuntimeLoader\n"
        "from indexer.models.spec import resolve\n"
        "assert not {'numpy', 'onnxruntime', 'tokenizers'} & set(sys.modules)\n"
        f"spec = resolve({spec.directory!r}, device='cpu')\n"
        "loader = RuntimeLoader()\n"
        "model = loader.load(spec, lambda *_: None, lambda: False)\n"
        "model.embed_query('lease'); model.close(); loader.release()\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'onnx', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout == "[]\n"
    assert done.stderr == ""
