from __future__ import annotations

import json
import re
from importlib import metadata, resources
from pathlib import Path

from indexer.models.catalogue import entries, lookup, nearest
from indexer.models.locate import Located, find, onnx_file, weight_files
from indexer.models.prepared import digest
from indexer.models.recipe import read_recipe

REQUIRED = [
    "all-MiniLM-L6-v2", "multilingual-e5-small", "multilingual-e5-base", "multilingual-e5-large",
    "bge-small-en-v1.5", "bge-base-en-v1.5", "bge-large-en-v1.5", "bge-m3",
    "paraphrase-multilingual-MiniLM-L12-v2", "nomic-embed-text-v1.5", "embeddinggemma-300m",
    "Qwen3-Embedding-0.6B", "potion-base-8M", "Xenova/multilingual-e5-small",
]  # fmt: skip


def test_every_promised_model_is_described() -> None:
    assert [n for n in REQUIRED if lookup(n) is None] == []
    for entry in entries():
        assert (entry.dim > 0) == (entry.kind == "embedder"), entry.name
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


def test_the_entry_of_the_embedded_model_is_what_its_files_say() -> None:
    entry, found = lookup("all-MiniLM-L6-v2"), find("all-MiniLM-L6-v2")
    assert entry is not None
    assert isinstance(found, Located)
    directory = Path(found.directory)
    read = read_recipe(directory)  # from the files alone
    said = (read.dim, read.max_tokens, read.pooling, read.query_prompt, read.passage_prompt, read.remote_code)
    assert said == (entry.dim, entry.context, entry.pooling, "", "", entry.remote_code)
    assert (entry.query_prompt, entry.passage_prompt) == ("", "")
    assert weight_files(directory) == ("model.safetensors",)
    assert entry.safetensors
    assert not entry.onnx and not onnx_file(directory, None)
    assert dict(entry.checks) == {"model.safetensors": digest(directory / "model.safetensors")}
    fetched = sum(f.stat().st_size for f in directory.rglob("*") if f.suffix in (".json", ".txt", ".safetensors"))
    assert abs(fetched - entry.disk_bytes) < 200_000
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^license: (.*)$", card, re.MULTILINE)[1] == entry.licence.lower()  # type: ignore[index]
    assert re.search(r"^language: (.*)$", card, re.MULTILINE)[1] in ("en", "English")  # type: ignore[index]
    assert entry.languages == "English"
    assert metadata.distribution(entry.distribution).files
    assert json.loads((directory / "config.json").read_text(encoding="utf-8"))["hidden_size"] == entry.dim


def test_every_entry_says_how_it_was_confirmed() -> None:
    text = resources.files("indexer.models").joinpath("catalogue.toml").read_text(encoding="utf-8")
    lines = text.splitlines()
    begun = [number for number, line in enumerate(lines) if line == "[[model]]"]
    assert len(begun) == len(entries())
    assert [lines[number + 1] for number in begun if not lines[number - 1].startswith("# ")] == []
