from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from tiny_models import HIDDEN, tokenizer, write_bert, write_static

from indexer.models import onnx
from indexer.models.bert_onnx import build_encoder
from indexer.models.onnx import PADDED_TOKENS, OnnxEmbedder, Passes
from indexer.models.recipe import read_recipe
from indexer.models.spec import resolve
from indexer.models.tokenizer import read_tokenizer

TEXTS = ["the lease", "", "how long is the notice period " * 9, "valve", "x" * 3000, "tenant 42"]


def loaded(directory: Path) -> OnnxEmbedder:
    return onnx.load_embedder(resolve(str(directory), device="cpu"), lambda _stage, _done: None, lambda: False)


class RecordingSession:
    """A real session that keeps what it was fed."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.fed: list[dict[str, Any]] = []
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs

    def run(self, outputs: list[str], feeds: dict[str, Any]) -> Any:
        self.fed.append(feeds)
        return self._session.run(outputs, feeds)

    def texts(self) -> list[str]:
        """What the tokenizer was given, as far as its tokens tell."""
        return [tokenizer().decode(list(row[row > 0])) for feeds in self.fed for row in feeds["input_ids"]]


def recording(directory: Path) -> tuple[OnnxEmbedder, RecordingSession]:
    spec, how = resolve(str(directory), device="cpu"), read_recipe(directory)
    graph, weights = build_encoder(directory, how)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(onnx._FOLDER, str(weights.parent))
    session = RecordingSession(onnxruntime.InferenceSession(graph, options))
    tokens = read_tokenizer(directory / "tokenizer.json")
    tokens.enable_truncation(max_length=spec.max_tokens)
    return OnnxEmbedder(spec, session, tokens, how, Passes()), session  # type: ignore[arg-type]


def test_both_prompts_reach_the_tokenizer(tmp_path: Path) -> None:
    model, session = recording(write_bert(tmp_path, prompts={"query": "query : ", "document": "passage : "}))
    model.embed_query("how long is the lease")
    model.embed_passages(["the notice period", "the valve"])
    assert session.texts() == [
        "[CLS] query : how long is the lease [SEP]",
        "[CLS] passage : the notice period [SEP]",
        "[CLS] passage : the valve [SEP]",
    ]


def test_a_text_is_cut_at_the_window_prompt_included(tmp_path: Path) -> None:
    model, session = recording(write_bert(tmp_path, max_tokens=10, prompts={"document": "passage : "}))
    model.embed_passages(["lease " * 5000])
    assert session.fed[0]["input_ids"].shape == (1, 10)
    assert session.texts() == ["[CLS] passage : " + "lease " * 6 + "[SEP]"]


def test_texts_of_like_length_share_a_pass_and_passes_stay_small(tmp_path: Path) -> None:
    model, session = recording(write_bert(tmp_path, max_tokens=60))
    model.embed_passages(["lease " * n for n in (50, 1, 48, 2)] * 20)
    shapes = [feeds["input_ids"].shape for feeds in session.fed]
    assert sum(rows for rows, _ in shapes) == 80
    assert all(rows * width <= PADDED_TOKENS for rows, width in shapes)
    assert sum(rows * width for rows, width in shapes) < 80 * 52, "short texts are not padded to the longest of all"


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_vector_does_not_depend_on_the_other_texts(tmp_path: Path, pooling: str) -> None:
    model = loaded(write_bert(tmp_path, pooling=pooling))
    together = model.embed_passages(TEXTS)
    alone = np.concatenate([model.embed_passages([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together[::-1] - model.embed_passages(TEXTS[::-1])).max() < 1e-5


def test_rows_are_float32_of_unit_length_in_the_order_asked(tmp_path: Path) -> None:
    model = loaded(write_bert(tmp_path))
    rows = model.embed_passages(TEXTS)
    assert (rows.dtype, rows.shape) == (np.float32, (len(TEXTS), HIDDEN))
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)
    assert np.allclose(model.embed_query(TEXTS[2]), rows[2], atol=1e-6)
    assert model.embed_passages([]).shape == (0, HIDDEN)


def test_a_text_without_tokens_has_the_zero_vector_in_a_static_table(tmp_path: Path) -> None:
    rows = loaded(write_static(tmp_path)).embed_passages(["", "lease"])
    assert not rows[0].any()
    assert np.linalg.norm(rows[1]) == pytest.approx(1.0)


def write_shipped(source: Path, target: Path, *, quantised: bool) -> Path:
    """Write ``source`` as a repository that has an ONNX form only, without files of sentence-transformers."""
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    graph, weights = build_encoder(source, read_recipe(source))
    model = onnx.load_from_string(graph)
    onnx.load_external_data_for_model(model, str(weights.parent))
    write_bert(target)
    (target / "model.safetensors").unlink()
    (target / "modules.json").unlink()
    (target / "onnx").mkdir()
    onnx.save(model, target / "onnx" / "model.onnx")
    if quantised:
        kinds = {"DefaultTensorType": onnx.TensorProto.FLOAT}  # shapes behind operations of its own are unknown to it
        quantize_dynamic(target / "onnx/model.onnx", target / "onnx/model_quantized.onnx", extra_options=kinds)
        (target / "onnx" / "model.onnx").unlink()
    return target


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_graph_makes_vectors_that_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    source = write_bert(tmp_path / "source")
    directory = write_shipped(source, tmp_path / "shipped", quantised=True)
    model = loaded(directory)
    together = model.embed_passages(TEXTS)
    alone = np.concatenate([model.embed_passages([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-6
    exact = loaded(source)
    assert np.abs(together - exact.embed_passages(TEXTS)).max() > 1e-4, "the graph was not quantised at all"
    assert model.spec.key != exact.spec.key


def test_an_onnx_file_of_the_repository_serves_when_there_are_no_weights(tmp_path: Path) -> None:
    source = write_bert(tmp_path / "source")
    served = loaded(write_shipped(source, tmp_path / "shipped", quantised=False))
    assert np.abs(served.embed_passages(TEXTS) - loaded(source).embed_passages(TEXTS)).max() < 1e-6


def test_a_closed_model_says_so(tmp_path: Path) -> None:
    model = loaded(write_bert(tmp_path))
    model.close()
    with pytest.raises(RuntimeError, match="is closed"):
        model.embed_query("lease")
