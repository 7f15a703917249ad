from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import HIDDEN, write_bert, write_hub, write_json, write_modules, write_static

from indexer.errors import SlotUnavailable
from indexer.models.spec import resolve


def test_the_embedded_model_resolves_without_a_heavy_import() -> None:
    code = (
        "import json, sys\n"
        "from indexer.models.spec import resolve\n"
        "s = resolve('all-MiniLM-L6-v2', device='auto')\n"
        "heavy = {'torch', 'transformers', 'numpy', 'onnxruntime', 'tokenizers', 'huggingface_hub'}\n"
        "heavy &= set(sys.modules)\n"
        "print(json.dumps([s.name, s.key, s.dim, s.max_tokens, s.checks, sorted(heavy)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    name, key, dim, window, checks, heavy = json.loads(done.stdout)
    assert (name, dim, window, heavy) == ("all-MiniLM-L6-v2", 384, 256, [])
    assert re.fullmatch(r"all_minilm_l6_v2_[0-9a-f]{10}", key)
    assert checks == [["model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"]]


def test_the_cpu_gets_onnx_and_the_accelerator_torch_with_one_key(tmp_path: Path) -> None:
    directory = str(write_bert(tmp_path / "My Model"))
    cpu, gpu = resolve(directory, device="cpu"), resolve(directory, device="cuda", dtype="float16")
    assert (cpu.runtime, cpu.device, cpu.dtype, cpu.dim) == ("onnx", "cpu", "float32", HIDDEN)
    assert (gpu.runtime, gpu.device, gpu.dtype) == ("torch", "cuda", "float16")
    assert cpu.key == gpu.key
    assert re.fullmatch(r"my_model_[0-9a-f]{10}", cpu.key)
    assert cpu.load_key != gpu.load_key
    assert resolve(directory, device="cpu", runtime="torch").runtime == "torch"


def test_the_key_changes_with_whatever_changes_the_vectors(tmp_path: Path) -> None:
    def key(name: str, **how: object) -> str:
        return resolve(str(write_bert(tmp_path / name / "m", **how)), device="cpu").key  # type: ignore[arg-type]

    plain = key("a")
    assert key("b") == plain
    different = [key("c", seed=1), key("d", pooling="cls"), key("e", prompts={"query": "q: "})]
    assert len({plain, *different}) == 4


def test_a_quantised_form_has_a_key_of_its_own(tmp_path: Path) -> None:
    exact = write_bert(tmp_path / "m")
    quantised = tmp_path / "q" / "m"
    shutil.copytree(exact, quantised)
    (quantised / "model.safetensors").unlink()
    (quantised / "onnx").mkdir()
    (quantised / "onnx" / "model_quantized.onnx").write_bytes(b"graph")
    spec = resolve(str(quantised), device="cuda")
    assert spec.runtime == "onnx", "there is nothing torch could load"
    assert spec.device == "cpu"
    assert spec.key != resolve(str(exact)).key
    with pytest.raises(SlotUnavailable, match="torch cannot load") as caught:
        resolve(str(quantised), runtime="torch")
    assert caught.value.code == "incompatible"


def test_a_model_from_the_hub_is_named_after_its_repository(tmp_path: Path) -> None:
    write_hub(tmp_path, "acme/Tiny-Model.v2", seed=3)
    spec = resolve("acme/Tiny-Model.v2", hub_cache=tmp_path, device="cpu")
    assert spec.key.startswith("tiny_model_v2_")
    local = write_bert(tmp_path / "Tiny-Model.v2", seed=3)
    assert resolve(str(local), device="cpu").key == spec.key, "the same files in another place"


def test_an_architecture_without_an_onnx_form_is_served_by_torch_until_it_has_one(tmp_path: Path) -> None:
    directory = str(write_bert(tmp_path, hidden_act="relu"))
    assert resolve(directory, device="cpu", data_dir=tmp_path / "data").runtime == "torch"
    with pytest.raises(SlotUnavailable, match="no ONNX form yet"):
        resolve(directory, device="cpu", runtime="onnx")


def test_a_model_that_is_not_here_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(SlotUnavailable) as caught:
        resolve("multilingual-e5-small", hub_cache=tmp_path)
    assert (caught.value.code, "folder-mcp models pull multilingual-e5-small" in caught.value.hint) == (
        "offline_missing",
        True,
    )
    with pytest.raises(SlotUnavailable) as caught:
        resolve("multilingual-e5-small", hub_cache=tmp_path, offline=True)
    assert "offline mode" in caught.value.hint
    with pytest.raises(SlotUnavailable) as caught:
        resolve("no such model", hub_cache=tmp_path)
    assert caught.value.code == "model_not_found"


def test_code_of_the_model_runs_only_when_allowed(tmp_path: Path) -> None:
    directory = str(write_bert(tmp_path, auto_map={"AutoModel": "modeling.Mine"}))
    with pytest.raises(SlotUnavailable, match="code from its own repository") as caught:
        resolve(directory, device="cpu")
    assert caught.value.code == "incompatible"
    assert resolve(directory, device="cpu", allow_remote_code=True).remote_code
    harmless = str(write_bert(tmp_path / "harmless"))
    assert not resolve(harmless, allow_remote_code=True).remote_code, "nothing asks for it"


@pytest.mark.parametrize("where", ["modules.json", "config.json", "1_Pooling/config.json"])
def test_the_files_of_a_catalogue_model_decide_whether_it_needs_code(tmp_path: Path, where: str) -> None:
    """Its repository may have been replaced since: the catalogue's word is not asked."""
    snapshot = write_hub(tmp_path, "BAAI/bge-small-en-v1.5", pooling="cls")
    assert not resolve("bge-small-en-v1.5", hub_cache=tmp_path, device="cuda", allow_remote_code=True).remote_code
    if where == "modules.json":
        write_modules(snapshot, [("", "sentence_transformers.models.Transformer"), ("1_Own", "evil.Pooling")])
    else:
        found = json.loads((snapshot / where).read_text(encoding="utf-8"))
        write_json(snapshot / where, found | {"auto_map": {"AutoModel": "evil.Model"}})
    with pytest.raises(SlotUnavailable, match="runs only with code from its own repository"):
        resolve("bge-small-en-v1.5", hub_cache=tmp_path, device="cuda")
    assert resolve("bge-small-en-v1.5", hub_cache=tmp_path, device="cuda", allow_remote_code=True).remote_code


def test_a_static_table_needs_no_torch(tmp_path: Path) -> None:
    spec = resolve(str(write_static(tmp_path / "table")), device="cpu")
    assert (spec.runtime, spec.dim) == ("onnx", HIDDEN)


def test_a_passed_export_is_taken_and_a_damaged_record_is_not(tmp_path: Path) -> None:
    directory, data = str(write_bert(tmp_path / "m", hidden_act="relu")), tmp_path / "data"
    key = resolve(directory, device="cpu", data_dir=data).key
    home = data / "models" / key
    record = {"key": key, "ok": True, "reason": "", "cosine": 1.0, "spread": 0.0, "versions": [],
              "checks": [["model.onnx", "00"]]}  # fmt: skip
    write_json(home / "export.json", record)
    assert resolve(directory, device="cpu", data_dir=data).runtime == "torch", "its graph is not there"
    (home / "model.onnx").write_bytes(b"graph")
    spec = resolve(directory, device="cpu", data_dir=data)
    assert (spec.runtime, spec.directory, spec.key, spec.checks) == ("onnx", str(home), key, (("model.onnx", "00"),))
    (home / "export.json").write_text("{", encoding="utf-8")
    assert resolve(directory, device="cpu", data_dir=data).runtime == "torch"
