"""Engines for tests: real store, real files, real parsers and tokenizers; only the weights are fake."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from fakes import FakeLoader

from indexer.config import Config, load_config
from indexer.engine import Engine, open_engine
from indexer.indexing import embedding_pass
from indexer.models.locate import Located, find
from indexer.types import Answer, Hit, Mode, Query


def settings(data: Path) -> Config:
    """The defaults, without the watcher: a test says itself when to look."""
    config = load_config(None, data_dir=data, environ={})
    return replace(config, index=replace(config.index, watch=False))


@asynccontextmanager
async def engine_over(
    data: Path,
    *folders: Path,
    loader: FakeLoader | None = None,
    config: Config | None = None,
    commit_delay: float = 0.1,
) -> AsyncIterator[Engine]:
    """An engine that keeps ``folders``; indexing has begun, nothing has been waited for.

    Args:
        data: Its data directory.
        folders: What it indexes.
        loader: Of models whose weights are fake.
        config: ``settings(data)`` unless given.
        commit_delay: Seconds between two commits of vectors; with the real 2 s each second ``index()`` would wait.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding_pass, "COMMIT_DELAY", commit_delay)
        async with open_engine(config or settings(data), version="test", loader=loader or FakeLoader()) as engine:
            for folder in folders:
                await engine.add_folder(str(folder))
            with anyio.fail_after(60):
                yield engine


async def ask(engine: Engine, text: str, mode: Mode = "hybrid") -> Answer:
    return await engine.search(Query(text, mode=mode))


def names(hits: Sequence[Hit]) -> list[str]:
    return [Path(hit.path).name for hit in hits]


def local_model(directory: Path, weights: bytes) -> Path:
    """A model directory with the embedded model's tokenizer and configuration, and weights of its own."""
    embedded = find("all-MiniLM-L6-v2")
    assert isinstance(embedded, Located)
    source = Path(embedded.directory)
    shutil.copytree(source, directory, ignore=shutil.ignore_patterns("*.safetensors", "data_config.json", "README.md"))
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(weights)], "data_offsets": [0, len(weights)]}}).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + weights)
    return directory
