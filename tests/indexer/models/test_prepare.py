"""What is to be made of a model, and the program that makes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import write_bert, write_cross_encoder

from indexer.errors import SlotUnavailable
from indexer.models import prepare, prepared
from indexer.models.convert import convert_weights
from indexer.models.locate import module_paths, pickled_files
from indexer.models.prepare import (
    PREPARATIONS,
    Outcome,
    Request,
    delete_damaged,
    due_preparations,
    preparation_lock,
    spec_of,
)
from indexer.models.prepared import EXPORT_RECORD, Verdict, digest, publish, workspace


def pickle_weights(directory: Path) -> Path:
    import torch
    from safetensors.torch import load_file

    weights = directory / "model.safetensors"
    torch.save(load_file(weights.resolve()), directory / "pytorch_model.bin")
    weights.unlink()
    return directory


def asked(tmp_path: Path, name: Path | str, **how: str) -> Request:
    return Request(str(name), str(tmp_path / "data"), str(tmp_path / "hub"), **({"device": "cpu"} | how))  # type: ignore[arg-type]


def wanted(request: Request) -> list[str]:
    return [preparation.name for preparation in due_preparations(request)]


def record_export(request: Request, reason: str = "") -> Path:
    """Write what an export leaves, with a graph that is none."""
    key = spec_of(request).key
    with workspace(request.directory, key) as part:
        (part / "model.onnx").write_bytes(b"graph")
        checks = (("model.onnx", digest(part / "model.onnx")),)
        publish(
            part, request.directory, Verdict(key, not reason, reason, checks=() if reason else checks), EXPORT_RECORD
        )
    return request.directory / "models" / key


def test_a_model_that_onnx_runtime_loads_needs_nothing(tmp_path: Path) -> None:
    assert wanted(asked(tmp_path, write_bert(tmp_path / "m"))) == []
    assert wanted(asked(tmp_path, "all-MiniLM-L6-v2")) == []


def test_a_model_that_only_torch_loads_gets_an_onnx_form_on_the_cpu_alone(tmp_path: Path) -> None:
    directory = write_bert(tmp_path / "m", hidden_act="relu")
    assert wanted(asked(tmp_path, directory)) == ["ONNX form"]
    assert wanted(asked(tmp_path, directory, device="cuda")) == []
    assert wanted(asked(tmp_path, directory, runtime="torch")) == [], "the user's choice"
    assert wanted(asked(tmp_path, directory, runtime="onnx", device="cuda")) == ["ONNX form"]


@pytest.mark.slow
def test_pickled_weights_come_first_whatever_the_device(tmp_path: Path) -> None:
    directory = pickle_weights(write_bert(tmp_path / "m", hidden_act="relu"))
    for how in ({}, {"device": "cuda"}, {"runtime": "torch"}):
        assert wanted(asked(tmp_path, directory, **how)) == ["safetensors"]
    convert_weights(directory, pickled_files(directory), module_paths(directory), tmp_path / "data", str)
    assert wanted(asked(tmp_path, directory)) == ["ONNX form"]
    assert wanted(asked(tmp_path, directory, runtime="torch")) == []


@pytest.mark.slow
def test_beside_an_onnx_form_pickles_are_converted_for_torch_alone(tmp_path: Path) -> None:
    directory = pickle_weights(write_bert(tmp_path / "m"))
    (directory / "model.onnx").write_bytes(b"graph")
    assert wanted(asked(tmp_path, directory)) == []
    request = asked(tmp_path, directory, runtime="torch")
    assert wanted(request) == ["safetensors"]
    assert list(prepare.prepare(request, str)) == [Outcome("safetensors", "")]
    assert wanted(request) == []
    assert spec_of(request).runtime == "torch"


@pytest.mark.slow
def test_a_reranker_gets_safetensors_and_no_onnx_form(tmp_path: Path) -> None:
    directory = write_cross_encoder(tmp_path / "judge")
    config = json.loads((directory / "config.json").read_text(encoding="utf-8")) | {"hidden_act": "relu"}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    request = asked(tmp_path, pickle_weights(directory))
    assert wanted(request) == ["safetensors"]
    assert list(prepare.prepare(request, str)) == [Outcome("safetensors", "")]
    assert (spec_of(request).kind, spec_of(request).runtime, wanted(request)) == ("reranker", "torch", [])


def test_a_refused_form_is_not_due_again(tmp_path: Path) -> None:
    request = asked(tmp_path, write_bert(tmp_path / "m", hidden_act="relu"))
    record_export(request, "its vectors differ")
    assert wanted(request) == []
    assert spec_of(request).runtime == "torch"


def test_what_was_made_and_is_damaged_is_made_again(tmp_path: Path) -> None:
    request = asked(tmp_path, write_bert(tmp_path / "m", hidden_act="relu"))
    home = record_export(request)
    assert (spec_of(request).runtime, wanted(request), delete_damaged(request)) == ("onnx", [], False)
    (home / "model.onnx").write_bytes(b"grapf")
    assert delete_damaged(request)
    assert not home.exists() and wanted(request) == ["ONNX form"]
    own = asked(tmp_path, write_bert(tmp_path / "n"))
    assert not delete_damaged(own) and Path(own.name).is_dir(), "the user's files are never deleted"


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("acme/tiny", "offline_missing", "folder-mcp models pull acme/tiny"),
        ("bge-m4", "model_not_found", "bge-m3"),
        ("/no/such/model", "model_not_found", "Check the path"),
    ],
)
def test_a_model_that_is_not_here_says_what_to_do(tmp_path: Path, name: str, code: str, words: str) -> None:
    with pytest.raises(SlotUnavailable) as caught:
        due_preparations(asked(tmp_path, name))
    assert caught.value.code == code and words in caught.value.hint


@pytest.mark.parametrize("file", ["modules.json", "config.json"])
def test_damaged_configuration_is_named(tmp_path: Path, file: str) -> None:
    directory = write_bert(tmp_path / "m")
    (directory / file).write_text('["not what it should be"', encoding="utf-8")
    with pytest.raises(SlotUnavailable) as caught:
        due_preparations(asked(tmp_path, directory))
    assert caught.value.code == "corrupt_files"


@pytest.mark.slow
def test_after_a_refusal_nothing_more_is_tried(tmp_path: Path) -> None:
    directory = pickle_weights(write_bert(tmp_path / "m", hidden_act="relu"))
    (directory / "pytorch_model.bin").write_bytes(b"")
    (outcome,) = prepare.prepare(asked(tmp_path, directory), str)
    assert outcome.name == "safetensors" and "it ends too early" in outcome.reason


def test_two_processes_never_prepare_in_one_data_directory(tmp_path: Path) -> None:
    said = "Another process prepares a model"
    with preparation_lock(tmp_path), pytest.raises(SlotUnavailable, match=said) as caught, preparation_lock(tmp_path):
        pytest.fail("twice")
    assert caught.value.code == "busy"
    with preparation_lock(tmp_path):
        pass


def test_the_list_is_in_order_and_each_has_a_name_of_its_own() -> None:
    assert [preparation.name for preparation in PREPARATIONS] == ["safetensors", "ONNX form"]


def test_a_record_that_is_damaged_counts_as_none(tmp_path: Path) -> None:
    request = asked(tmp_path, write_bert(tmp_path / "m", hidden_act="relu"))
    home = record_export(request)
    for text in ("{", "[]", '{"key": "k"}', '{"versions": 3, "checks": []}'):
        (home / EXPORT_RECORD).write_text(text, encoding="utf-8")
        assert prepared.read_verdict(request.directory, home.name, EXPORT_RECORD) is None
        assert wanted(request) == ["ONNX form"]


def test_a_workspace_takes_no_leftovers_over_and_leaves_none(tmp_path: Path) -> None:
    left = tmp_path / "models" / "k.part"
    left.mkdir(parents=True)
    (left / "old").write_bytes(b"")
    with pytest.raises(KeyError), workspace(tmp_path, "k") as part:
        assert list(part.iterdir()) == []
        raise KeyError
    assert list((tmp_path / "models").iterdir()) == []
