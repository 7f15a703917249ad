"""Pickled weights made into safetensors: read without running them, verified, found, and the same vectors."""

from __future__ import annotations

import errno
import os
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import write_bert, write_hub, write_json, write_modules

from indexer.errors import SlotUnavailable
from indexer.models import prepared
from indexer.models.convert import convert_weights
from indexer.models.loader import RuntimeLoader
from indexer.models.locate import Located, Missing, find, find_pickled, module_paths, pickled_files
from indexer.models.prepared import Verdict
from indexer.models.spec import resolve
from indexer.slot.failure import ModelRefused, classify

pytestmark = pytest.mark.slow  # it loads torch

TEXTS = ["the lease is valid", "how long is the notice period of a contract " * 3, "valve"]


class Code:
    """What a hostile pickle holds: a call that its reader would make."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.mark}'",)


def pickle_weights(directory: Path, name: str = "pytorch_model.bin", **how: Any) -> Path:
    """Replace a model's safetensors by the same tensors, pickled as torch does it."""
    weights = directory / "model.safetensors"
    tensors = load_file(weights.resolve())
    weights.unlink()
    torch.save(OrderedDict(tensors), directory / name, **how)
    return directory


def convert(directory: Path, data: Path) -> Verdict:
    return convert_weights(directory, pickled_files(directory), module_paths(directory), data, str)


def vectors(directory: Path, data: Path) -> Any:
    spec = resolve(str(directory), device="cpu", data_dir=data)
    model = RuntimeLoader().load(spec, lambda stage, done: None, lambda: False)
    try:
        return model.embed_passages(TEXTS)  # type: ignore[union-attr]
    finally:
        model.close()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_converted_model_has_the_same_vectors_and_the_same_key(tmp_path: Path, zipped: bool) -> None:
    safe, data = write_bert(tmp_path / "safe" / "m"), tmp_path / "data"
    weights = safe / "model.safetensors"
    save_file(load_file(weights), weights, metadata={"format": "pt"})  # as transformers writes them
    directory = tmp_path / "m"
    shutil.copytree(safe, directory)
    pickle_weights(directory, _use_new_zipfile_serialization=zipped)
    before = sorted((file, file.read_bytes()) for file in directory.rglob("*") if file.is_file())
    outcome = convert(directory, data)
    assert outcome.ok
    assert (vectors(directory, data) == vectors(safe, data)).all()
    assert resolve(str(directory), data_dir=data).key == resolve(str(safe)).key
    assert sorted((file, file.read_bytes()) for file in directory.rglob("*") if file.is_file()) == before
    assert [name for name, _ in outcome.checks] == ["model.safetensors"]
    assert dict(outcome.versions).keys() >= {"torch", "safetensors"}


def test_a_pickled_model_says_what_to_do_and_is_found_once_converted(tmp_path: Path) -> None:
    directory, data = pickle_weights(write_bert(tmp_path / "my model")), tmp_path / "data"
    for looked in (find(str(directory)), find(str(directory), data_dir=data)):
        assert isinstance(looked, Missing)
        assert looked.code == "unprepared"
        assert "cannot be loaded yet" in looked.reason and "can run code" in looked.reason
        assert looked.remedy == f'Run: folder-mcp models prepare "{directory}"'
    outcome = convert(directory, data)
    found = find(str(directory), data_dir=data)
    assert isinstance(found, Located)
    assert (found.directory, found.source) == (str(data / "models" / outcome.key), "directory")
    assert found.checks == outcome.checks
    assert resolve(str(directory), data_dir=data).key.startswith("my_model_")
    (data / "models" / outcome.key / "model.safetensors").unlink()
    assert isinstance(find(str(directory), data_dir=data), Missing), "what was made is not all there"


def test_a_pickled_model_of_the_hub_is_here_and_not_to_be_pulled(tmp_path: Path) -> None:
    cache, data = tmp_path / "hub", tmp_path / "data"
    snapshot = pickle_weights(write_hub(cache, "acme/tiny"))
    found = find("acme/tiny", hub_cache=cache, data_dir=data)
    assert isinstance(found, Missing)
    assert found.remedy == "Run: folder-mcp models prepare acme/tiny"
    pickles = find_pickled("acme/tiny", hub_cache=cache)
    assert pickles == Located(str(snapshot), "hub", revision="c" * 40)
    assert convert(snapshot, data).ok
    spec = resolve("acme/tiny", hub_cache=cache, data_dir=data)
    assert spec.key.startswith("tiny_") and Path(spec.directory).is_relative_to(data)
    assert not list(snapshot.rglob("*.safetensors")), "nothing is written into the hub's cache"


def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    directory, data = pickle_weights(write_bert(tmp_path / "m")), tmp_path / "data"
    torch.save({"a": torch.ones(2), "b": Code(tmp_path / "ran")}, directory / "pytorch_model.bin")
    outcome = convert(directory, data)
    assert not (tmp_path / "ran").exists()
    assert not outcome.ok
    assert "holds more than tensors" in outcome.reason and "system" in outcome.reason
    assert [file.name for file in (data / "models" / outcome.key).iterdir()] == ["weights.json"]
    with pytest.raises(SlotUnavailable, match=r"refused: pytorch_model\.bin holds more than tensors") as caught:
        resolve(str(directory), data_dir=data)
    assert caught.value.code == "incompatible"
    torch.save(load_file(write_bert(tmp_path / "n") / "model.safetensors"), directory / "pytorch_model.bin")
    again = find(str(directory), data_dir=data)
    assert isinstance(again, Missing) and again.code == "unprepared", "another file may be better"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "content",
    [b"", b"not a pickle at all", b"PK\x03\x04 cut off", b"\x80\x04K\x01."],
    ids=["empty", "garbage", "half a zip", "a number"],
)
def test_a_damaged_pickle_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    directory = write_bert(tmp_path / "m")
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(content)
    outcome = convert(directory, tmp_path / "data")
    assert not outcome.ok and outcome.reason.startswith("pytorch_model.bin ")


@pytest.mark.parametrize("value", [torch.ones(2), {}, {"a": "text"}, {"a": {"b": torch.ones(1)}}, {1: torch.ones(1)}])
def test_only_named_tensors_are_weights(tmp_path: Path, value: Any) -> None:
    directory = pickle_weights(write_bert(tmp_path / "m"))
    torch.save(value, directory / "pytorch_model.bin")
    outcome = convert(directory, tmp_path / "data")
    assert outcome.reason == "pytorch_model.bin is not a set of named tensors"


def test_tensors_that_share_memory_and_odd_numbers_come_through(tmp_path: Path) -> None:
    whole = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors = {
        "tied": whole, "tied.twice": whole, "part": whole[1:2], "turned": whole.t(), "scalar": torch.tensor(3),
        "nothing": torch.zeros(0), "undefined": torch.tensor([float("nan"), float("inf"), -0.0]),
        "half": whole.half(), "brain": whole.bfloat16(), "bits": torch.tensor([True, False]),
    }  # fmt: skip
    directory = pickle_weights(write_bert(tmp_path / "m"))
    torch.save(tensors, directory / "pytorch_model.bin")
    outcome = convert(directory, tmp_path / "data")
    assert outcome.ok, outcome.reason
    back = load_file(tmp_path / "data" / "models" / outcome.key / "model.safetensors")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape, name
        assert torch.equal(back[name].nan_to_num(7), tensor.nan_to_num(7)), name


def test_what_comes_back_otherwise_than_it_was_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bent(tensors: dict[str, Any], file: Path, metadata: dict[str, str]) -> None:
        first = next(iter(tensors))
        save_file({**tensors, first: tensors[first] + 1}, file, metadata)

    monkeypatch.setattr("indexer.models.convert.save_file", bent)
    outcome = convert(pickle_weights(write_bert(tmp_path / "m")), tmp_path / "data")
    assert outcome.reason == "pytorch_model.bin came back with other numbers than were written"
    assert not list((tmp_path / "data").rglob("*.safetensors"))


def test_shards_stay_shards_and_count_only_when_all_are_here(tmp_path: Path) -> None:
    safe, data = write_bert(tmp_path / "safe" / "m"), tmp_path / "data"
    directory = tmp_path / "m"
    shutil.copytree(safe, directory)
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    write_json(directory / "pytorch_model.bin.index.json", {"weight_map": {n: f for f in shards for n in shards[f]}})
    for file, chosen in shards.items():
        assert pickled_files(directory) == ()
        torch.save({name: tensors[name] for name in chosen}, directory / file)
    assert pickled_files(directory) == tuple(shards)
    outcome = convert(directory, data)
    assert [name for name, _ in outcome.checks] == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    ]  # fmt: skip
    assert np.abs(vectors(directory, data) - vectors(safe, data)).max() < 1e-6


def test_weights_of_modules_are_converted_and_safetensors_of_modules_are_taken_along(tmp_path: Path) -> None:
    safe = write_bert(tmp_path / "m")
    directory = tmp_path / "n"
    shutil.copytree(safe, directory / "0_Transformer", ignore=shutil.ignore_patterns("modules.json", "?_*"))
    shutil.copytree(safe / "1_Pooling", directory / "1_Pooling")
    pickle_weights(directory / "0_Transformer")
    for place in ("2_Dense", "3_Dense"):
        write_json(directory / place / "config.json", {"in_features": 16, "out_features": 16})
        save_file({"linear.weight": torch.eye(16)}, directory / place / "model.safetensors")
    pickle_weights(directory / "2_Dense")
    write_modules(directory, [("0_Transformer", "T"), ("1_Pooling", "P"), ("2_Dense", "D"), ("3_Dense", "D")])
    outcome = convert(directory, tmp_path / "data")
    assert outcome.ok
    assert dict(outcome.checks).keys() == {
        "0_Transformer/model.safetensors", "2_Dense/model.safetensors", "3_Dense/model.safetensors",
    }  # fmt: skip
    made = tmp_path / "data" / "models" / outcome.key
    assert (made / "0_Transformer" / "tokenizer.json").is_file()
    assert not list(made.rglob("*.bin"))


def test_names_that_lead_out_of_the_model_are_not_followed(tmp_path: Path) -> None:
    directory = pickle_weights(write_bert(tmp_path / "m"))
    write_json(tmp_path / "outside" / "config.json", {})
    write_modules(directory, [("", "T"), ("../outside", "P"), (str(tmp_path / "outside"), "D")])
    assert module_paths(directory) == ()
    assert convert(directory, tmp_path / "data").ok
    assert not (tmp_path / "data" / "models" / "outside").exists()
    (directory / "pytorch_model.bin").rename(tmp_path / "pytorch_model.bin")
    write_json(directory / "pytorch_model.bin.index.json", {"weight_map": {"a": "../pytorch_model.bin"}})
    assert pickled_files(directory) == ()


def test_another_configuration_makes_another_conversion(tmp_path: Path) -> None:
    directory, data = pickle_weights(write_bert(tmp_path / "m")), tmp_path / "data"
    first = convert(directory, data)
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": False})
    assert isinstance(find(str(directory), data_dir=data), Missing)
    second = convert(directory, data)
    assert second.key != first.key
    assert resolve(str(directory), data_dir=data).max_tokens == 16


def test_beside_an_onnx_form_pickles_are_not_needed(tmp_path: Path) -> None:
    directory = pickle_weights(write_bert(tmp_path / "m"))
    (directory / "onnx").mkdir()
    (directory / "onnx" / "model.onnx").write_bytes(b"graph")
    found = find(str(directory), data_dir=tmp_path / "data")
    assert found == Located(str(directory), "directory")


def test_a_full_disk_is_seen_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "MARGIN", 1 << 60)
    with pytest.raises(ModelRefused, match="are free") as caught:
        convert(pickle_weights(write_bert(tmp_path / "m")), tmp_path / "data")
    assert caught.value.code == "disk_full"
    assert not (tmp_path / "data" / "models").exists()


class SafetensorError(Exception):
    """Named as the library names it."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_up_in_the_middle_leaves_nothing_and_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(tensors: dict[str, Any], file: Path, metadata: dict[str, str]) -> None:
        file.write_bytes(b"half")
        raise error

    directory, data = pickle_weights(write_bert(tmp_path / "m")), tmp_path / "data"
    with monkeypatch.context() as patched:
        patched.setattr("indexer.models.convert.save_file", full)
        with pytest.raises(type(error)) as caught:
            convert(directory, data)
    assert classify(caught.value).code == "disk_full"
    assert list((data / "models").iterdir()) == []
    assert convert(directory, data).ok
