from __future__ import annotations

from indexer.model.catalogue import entries, lookup, nearest

REQUIRED = [
    "all-MiniLM-L6-v2", "multilingual-e5-small", "multilingual-e5-base", "multilingual-e5-large",
    "bge-small-en-v1.5", "bge-base-en-v1.5", "bge-large-en-v1.5", "bge-m3",
    "paraphrase-multilingual-MiniLM-L12-v2", "nomic-embed-text-v1.5", "embeddinggemma-300m",
    "Qwen3-Embedding-0.6B", "potion-base-8M", "Xenova/multilingual-e5-small",
]  # fmt: skip


def test_every_promised_model_is_described() -> None:
    assert [n for n in REQUIRED if lookup(n) is None] == []
    for entry in entries():
        assert entry.dim > 0, entry.name
        assert entry.context >= 128, entry.name
        assert entry.licence, entry.name
        assert entry.disk_bytes > 10_000_000, entry.name
        assert entry.pooling in ("mean", "cls", "last", "static"), entry.name
        assert entry.safetensors or entry.onnx, f"{entry.name} could not be loaded at all"


def test_names_and_repositories_mean_one_model_each() -> None:
    names = [n.lower() for e in entries() for n in {e.name, e.repo}]
    assert len(names) == len(set(names))


def test_models_trained_with_prompts_have_them() -> None:
    for name in ("multilingual-e5-small", "multilingual-e5-large", "Xenova/multilingual-e5-small"):
        entry = lookup(name)
        assert entry is not None
        assert (entry.query_prompt, entry.passage_prompt) == ("query: ", "passage: ")


def test_lookup_takes_short_names_and_repositories_in_any_case() -> None:
    assert lookup("baai/BGE-M3") is lookup("bge-m3") is not None
    assert lookup("bge") is None


def test_nearest_names_only_what_is_like_it() -> None:
    assert nearest("all-minilm-l6") == "all-MiniLM-L6-v2"
    assert nearest("something else") == ""
