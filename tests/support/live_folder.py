"""Bursts of changes in a watched folder, and the comparison of its index with a fresh one of the final tree."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import anyio
from fakes import FakeLoader

from indexer.config import Config, load_config
from indexer.engine import Engine, open_engine
from indexer.types import FileRow

Contents = dict[str, tuple[str, str, int, tuple[str, ...]]]
"""Path below the root -> outcome, hash, number of chunks, chunks as cited."""


def watched(data: Path, *, watch: bool = True) -> Config:
    config = load_config(None, data_dir=data, environ={})
    index = replace(config.index, watch=watch)
    return replace(config, index=index, search=replace(config.search, wait=300.0))


def text(chance: random.Random, number: int) -> str:
    return "\n".join(f"File {number} line {n} says {chance.randrange(10**9)}" for n in range(chance.randrange(1, 6)))


def plant(root: Path, files: int, chance: random.Random) -> None:
    """``files`` small notes, fifty a directory."""
    for number in range(files):
        directory = root / f"d{number // 50:04d}"
        directory.mkdir(exist_ok=True)
        (directory / f"n{number}.md").write_text(text(chance, number), encoding="utf-8")


def burst(root: Path, changes: int, chance: random.Random, first: int) -> int:
    """Change, save atomically, move, delete and add ``changes`` files, directories too; how many files it touched."""
    touched, number = 0, first
    files = [Path(at, name) for at, _, names in os.walk(root) for name in names]
    chance.shuffle(files)
    for path in files:
        if touched >= changes:
            break
        if not path.exists():
            continue  # its directory went
        kind = chance.randrange(100)
        number += 1
        touched += 1
        if kind < 35:
            path.write_text(text(chance, number), encoding="utf-8")
        elif kind < 45:  # as editors save: written beside it, then put in its place
            draft = path.with_name(f".{path.name}.tmp")
            draft.write_text(text(chance, number), encoding="utf-8")
            draft.replace(path)
        elif kind < 65:
            path.rename(path.with_name(f"moved{number}.md"))
        elif kind < 85:
            path.unlink()
        elif kind < 98:
            path.with_name(f"new{number}.md").write_text(text(chance, number), encoding="utf-8")
        elif kind == 98:
            touched += len(list(path.parent.iterdir())) - 1
            path.parent.rename(root / f"moved{number}")
        else:
            touched += len(list(path.parent.iterdir())) - 1
            shutil.rmtree(path.parent)
    return touched


def differences(rows: Mapping[str, FileRow], root: Path) -> int:
    """How many files the index has not got as they are on disk."""
    found = {}
    for at, _, names in os.walk(root):
        for name in names:
            if not name.startswith("."):
                status = os.stat(os.path.join(at, name))
                found[os.path.join(at, name)] = (status.st_size, status.st_mtime_ns)
    known = {path: (row.size, row.mtime_ns) for path, row in rows.items()}
    return len(found.items() ^ known.items())


async def until_equal(engine: Engine, root: Path) -> None:
    """Wait until the index has every file as it is on disk, and every chunk its vector."""
    assert engine._components is not None
    manifest = engine._components.manifest
    async for status in engine.watch(at_most_every=0.5):
        rows = dict(manifest.rows(str(root)))
        folder = status.folders[0]
        if folder.coverage == 1.0 and not await anyio.to_thread.run_sync(differences, rows, root):
            return


async def contents(engine: Engine, root: Path) -> Contents:
    """Everything the index says of a folder."""
    assert engine._components is not None
    found: Contents = {}
    for path, row in dict(engine._components.manifest.rows(str(root))).items():
        chunks = await engine._components.store.chunks_of(path)
        cited = tuple(f"{chunk.locator} {chunk.text_hash}" for chunk in sorted(chunks, key=lambda c: c.ordinal))
        found[os.path.relpath(path, root)] = (row.outcome, row.sha256, row.chunks, cited)
    return found


async def fresh_contents(data: Path, root: Path) -> Contents:
    """What a new index of the same tree says."""
    async with open_engine(watched(data, watch=False), version="test", loader=FakeLoader()) as engine:
        await engine.add_folder(str(root))
        await engine.index()
        return await contents(engine, root)
