"""Both runtimes on the real embedded weights, and what only torch does. Loads torch: about ten seconds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import tokenizer, write_bert, write_modules, write_static

from indexer.errors import SlotUnavailable
from indexer.models.loader import RuntimeLoader
from indexer.models.spec import resolve
from indexer.slot.embedder import Embedder, ModelSpec

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TEXTS = [
    "The lease may be ended by either party with three months' notice in writing.",
    "Ein Vermieter darf die Kaution erst nach Ablauf der Prüffrist zurückhalten.",
    "会议记录应当在三个工作日内发送给所有与会者。",
    "def area(radius):\n    return math.pi * radius ** 2\n",
    "",
    "x" * 5000,
    "valve pressure " * 400,
]


def load(spec: ModelSpec) -> Embedder:
    return RuntimeLoader().load(spec, lambda _stage, _done: None, lambda: False)


@pytest.fixture(scope="module")
def both() -> Iterator[dict[str, Embedder]]:
    models = {kind: load(resolve("all-MiniLM-L6-v2", device="cpu", runtime=kind)) for kind in ("onnx", "torch")}  # type: ignore[arg-type]
    yield models
    for model in models.values():
        model.close()


def test_the_runtimes_agree_on_the_embedded_weights(both: dict[str, Embedder]) -> None:
    onnx, torch = (both[kind].embed_passages(TEXTS) for kind in ("onnx", "torch"))
    assert (onnx * torch).sum(axis=1).min() >= 0.9999
    assert np.abs(onnx - torch).max() < 1e-5
    assert both["onnx"].spec.key == both["torch"].spec.key


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_a_vector_does_not_depend_on_its_batch(both: dict[str, Embedder], kind: str) -> None:
    together = both[kind].embed_passages(TEXTS)
    alone = np.concatenate([both[kind].embed_passages([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-4
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_a_reloaded_model_gives_the_same_vectors(both: dict[str, Embedder], kind: Any) -> None:
    again = load(resolve("all-MiniLM-L6-v2", device="cpu", runtime=kind))
    assert np.abs(again.embed_passages(TEXTS) - both[kind].embed_passages(TEXTS)).max() < 1e-6
    again.close()


def test_like_sentences_are_near(both: dict[str, Embedder]) -> None:
    query = both["onnx"].embed_query("when can a tenant terminate the contract?")
    near, far = both["onnx"].embed_passages(["The lease ends on three months' notice.", "Fold the egg whites in."])
    assert float(query @ near) > float(query @ far) + 0.2


def test_both_prompts_reach_the_tokenizer_on_torch(tmp_path: Path) -> None:
    directory = write_bert(tmp_path, max_tokens=10, prompts={"query": "query : ", "document": "passage : "})
    model: Any = load(resolve(str(directory), device="cpu", runtime="torch"))
    seen: list[str] = []

    def keep(_module: Any, args: Any) -> None:
        for row in args[0].tolist():
            seen.append(tokenizer().decode([i for i in row if i], skip_special_tokens=False))

    model.module[0].auto_model.embeddings.word_embeddings.register_forward_pre_hook(keep)
    model.embed_query("how long is the lease")
    model.embed_passages(["the notice period", "lease " * 5000])
    assert sorted(seen) == sorted([
        "[CLS] query : how long is the lease [SEP]",
        "[CLS] passage : the notice period [SEP]",
        "[CLS] passage : " + "lease " * 6 + "[SEP]",
    ])  # fmt: skip


def test_a_default_prompt_of_the_model_is_not_added_to_ours(tmp_path: Path) -> None:
    directory = write_bert(tmp_path / "a", prompts={"query": "query : "})
    config = '{"prompts": {"query": "query : "}, "default_prompt_name": "query"}'
    (directory / "config_sentence_transformers.json").write_text(config, encoding="utf-8")
    for kind in ("onnx", "torch"):
        model = load(resolve(str(directory), device="cpu", runtime=kind))  # type: ignore[arg-type]
        assert (model.spec.query_prompt, model.spec.passage_prompt) == ("query : ", "query : ")
        assert np.allclose(model.embed_query("lease"), model.embed_passages(["lease"])[0], atol=1e-6)
    bare = write_bert(tmp_path / "b")
    model = load(resolve(str(bare), device="cpu"))
    assert not np.allclose(model.embed_query("query : lease"), model.embed_query("lease"), atol=1e-3)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_the_runtimes_agree_on_every_pooling(tmp_path: Path, pooling: str) -> None:
    directory = str(write_bert(tmp_path, pooling=pooling))
    texts = ["the lease", "how long is the notice period of the contract", "valve"]
    rows = [load(resolve(directory, device="cpu", runtime=k)).embed_passages(texts) for k in ("onnx", "torch")]  # type: ignore[arg-type]
    assert (rows[0] * rows[1]).sum(axis=1).min() >= 0.9999


def test_the_runtimes_agree_on_a_static_table(tmp_path: Path) -> None:
    directory = str(write_static(tmp_path))
    texts = ["the lease", "how long is the notice period of the contract", "valve"]
    rows = [load(resolve(directory, device="cpu", runtime=k)).embed_passages(texts) for k in ("onnx", "torch")]  # type: ignore[arg-type]
    assert (rows[0] * rows[1]).sum(axis=1).min() >= 0.9999


@pytest.mark.slow
def test_a_class_of_a_local_directory_is_not_imported_unless_allowed(tmp_path: Path) -> None:
    """The library's own refusal, for files that changed after they were looked at."""
    directory, ran = write_bert(tmp_path / "m"), tmp_path / "ran"
    spec = resolve(str(directory), device="cpu", runtime="torch")
    (directory / "evil.py").write_text(f"import os\nos.mkdir({str(ran)!r})\n", encoding="utf-8")
    own = [("", "sentence_transformers.models.Transformer"), ("1_Own", "evil.Pooling")]
    (directory / "1_Own").mkdir()
    write_modules(directory, own)
    with pytest.raises(Exception, match=r"trust_remote_code|evil"):
        load(spec)
    assert not ran.exists()
    with pytest.raises(SlotUnavailable, match="code from its own repository"):
        resolve(str(directory), device="cpu", runtime="torch")


def test_a_load_touches_no_network_and_writes_nothing_out(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "def refuse(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'):\n"
        "        raise SystemExit(f'network: {event} {args}')\n"
        "sys.addaudithook(refuse)\n"
        "from indexer.models.loader import RuntimeLoader\n"
        "from indexer.models.spec import resolve\n"
        f"spec = resolve({str(write_bert(tmp_path))!r}, device='cpu', runtime='torch')\n"
        "model = RuntimeLoader().load(spec, lambda *_: None, lambda: False)\n"
        "model.embed_query('lease')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == ""
