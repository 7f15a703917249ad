"""Models that are not here, or come while the engine runs: told plainly, taken up without a restart."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from engines import ask, engine_over, local_model, settings
from tiny_models import write_bert, write_hub

from indexer.broadcast import Notifier
from indexer.config import Config, FolderSettings
from indexer.engine import Engine
from indexer.folders.model_availability import ModelResolver, ModelTracker
from indexer.folders.state import Folders
from indexer.models.convert import convert_weights
from indexer.models.locate import module_paths, pickled_files
from indexer.models.prepared import EXPORT_RECORD, Verdict, digest, publish, workspace
from indexer.slot.embedder import ModelSpec
from indexer.status_types import ModelAvailability, Status

DEFAULT = "all-MiniLM-L6-v2"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # LanceDB knows no other


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "bees.md").write_text("# Bees\n\nA swarm follows its queen to the new hive.\n", encoding="utf-8")
    return folder


def missing_model(tmp_path: Path, notes: Path, name: str = "acme/tiny") -> Config:
    config = replace(settings(tmp_path / "data"), hub_cache=tmp_path / "hub")
    return replace(config, folders=(FolderSettings(path=str(notes), model=name),))


async def seen(engine: Engine, wanted: str) -> Status:
    """The first snapshot whose models include ``wanted``."""
    with anyio.fail_after(20):
        async for status in engine.watch(at_most_every=0):
            if any(model.name == wanted for model in status.models):
                return status
    raise AssertionError


async def test_status_says_which_named_models_are_here(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", config=missing_model(tmp_path, notes)) as engine:
        status = await seen(engine, "acme/tiny")
    default, tiny = status.models
    assert (default.name, default.local, default.runtime, default.reason) == (DEFAULT, True, "onnx", "")
    assert default.size is not None and default.size > 80_000_000
    assert (tiny.local, tiny.size, tiny.runtime) == (False, None, "")
    assert tiny.reason == "The model acme/tiny is not on this machine."
    assert tiny.remedy == "Run: folder-mcp models pull acme/tiny"


async def test_a_missing_model_means_search_by_word_and_the_folder_says_so(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", config=missing_model(tmp_path, notes)) as engine:
        report = await engine.index()
        answer = await ask(engine, "swarm")
        (folder,) = engine.status().folders
    assert not report.complete
    assert [hit.matched for hit in answer.hits] == [("keyword",)]
    assert answer.semantic.code == "offline_missing"
    assert folder.detail == (
        "searchable by word only: The model acme/tiny is not on this machine. Run: folder-mcp models pull acme/tiny"
    )


async def test_a_search_notices_a_pulled_model_and_its_folder_is_embedded(tmp_path: Path, notes: Path) -> None:
    config = missing_model(tmp_path, notes)
    async with engine_over(tmp_path / "data", config=config) as engine:
        await engine.index()
        write_hub(config.hub_cache, "acme/tiny")
        assert engine.status().folders[0].coverage == 0
        await ask(engine, "swarm")
        async for status in engine.watch(at_most_every=0):
            if status.folders[0].coverage == 1.0 and status.folders[0].state == "ready":
                break
        answer = await ask(engine, "swarm queen")
    assert [model.local for model in status.models] == [True, True]
    assert status.folders[0].detail == ""
    assert answer.semantic.status == "served"


async def test_an_index_run_takes_a_pulled_model_up(tmp_path: Path, notes: Path) -> None:
    config = missing_model(tmp_path, notes)
    async with engine_over(tmp_path / "data", config=config) as engine:
        assert not (await engine.index()).complete
        write_hub(config.hub_cache, "acme/tiny")
        report = await engine.index()
    assert report.complete and report.embedded == report.chunks > 0


async def test_looking_on_alone_never_looks_for_models(tmp_path: Path, notes: Path) -> None:
    """``watch`` shows many snapshots; none of them may touch the disk."""
    config = missing_model(tmp_path, notes)
    async with engine_over(tmp_path / "data", config=config) as engine:
        await engine.index()
        await seen(engine, "acme/tiny")
        write_hub(config.hub_cache, "acme/tiny")
        shown = 0
        async for status in engine.watch(at_most_every=0):
            assert status.folders[0].coverage == 0
            shown += 1
            if shown == 3:
                break


async def test_a_model_named_later_appears_in_status(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data") as engine:
        await seen(engine, DEFAULT)
        await engine.add_folder(str(notes), "bge-m3")
        engine.status()
        status = await seen(engine, "bge-m3")
    assert [(model.name, model.local) for model in status.models] == [(DEFAULT, True), ("bge-m3", False)]
    assert status.models[1].size and status.models[1].size > 1_000_000_000


async def test_a_model_that_no_folder_names_any_more_leaves_the_status(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data") as engine:
        await engine.add_folder(str(notes), "bge-m3")
        await seen(engine, "bge-m3")
        await engine.remove_folder(str(notes))
        async for status in engine.watch(at_most_every=0):
            if [model.name for model in status.models] == [DEFAULT]:
                break


class Looks(ModelResolver):
    """Models that count how often they are looked for, and can hold a look until they are told to go on."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.number = 0
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def available(self, names: Iterable[str]) -> tuple[ModelAvailability, ...]:
        self.number += 1
        self.begun.set()
        assert self.go_on.wait(30)
        return super().available(names)


@pytest.mark.parametrize("missing", [False, True])
async def test_models_are_looked_for_again_only_while_one_is_missing(
    tmp_path: Path, notes: Path, missing: bool
) -> None:
    config = missing_model(tmp_path, notes, "acme/tiny" if missing else DEFAULT)
    async with engine_over(tmp_path / "data", config=config) as engine:
        await engine.index()
        tracker = engine._tracker
        while not tracker.models or tracker.incomplete is not missing:
            await anyio.lowlevel.checkpoint()
        asked = tracker._requests.notifications
        await ask(engine, "swarm")
        assert tracker._requests.notifications - asked == int(missing)
        engine.status()
        assert tracker._requests.notifications - asked == 2 * int(missing)


async def test_a_question_that_falls_into_a_look_is_followed_by_another_look(tmp_path: Path) -> None:
    config = replace(settings(tmp_path / "data"), hub_cache=tmp_path / "hub")
    config = replace(config, model=replace(config.model, default="acme/tiny"))
    looks, changed = Looks(config), Notifier()
    available = ModelTracker(config, looks, Folders(), lambda root: None)
    looks.go_on.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(available.run, changed.notify)
        with anyio.fail_after(20):
            await anyio.to_thread.run_sync(looks.begun.wait)
            available.check_again()
            looks.go_on.set()
            while looks.number < 2:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()


def slow_model(directory: Path) -> Path:
    """A model that only torch could load."""
    local_model(directory, b"\1" * 64)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}), encoding="utf-8")
    return directory


def write_export(data: Path, spec: ModelSpec, reason: str = "") -> None:
    """Write what preparing a model leaves, with a graph that is none."""
    with workspace(data, spec.key) as part:
        shutil.copyfile(Path(spec.directory) / "tokenizer.json", part / "tokenizer.json")
        (part / "model.onnx").write_bytes(b"graph")
        checks = () if reason else (("model.onnx", digest(part / "model.onnx")),)
        publish(part, data, Verdict(spec.key, not reason, reason, checks=checks), EXPORT_RECORD)


@pytest.mark.parametrize("asked", ["status", "search", "index"])
async def test_a_prepared_model_is_taken_up_and_nothing_is_embedded_again(
    tmp_path: Path, notes: Path, asked: str
) -> None:
    model, data = slow_model(tmp_path / "model"), tmp_path / "data"
    config = replace(settings(data), folders=(FolderSettings(path=str(notes), model=str(model)),))
    async with engine_over(data, config=config) as engine:
        before = await engine.index()
        (folder,) = engine._folders
        spec = folder.model.spec
        assert before.complete and spec is not None and spec.runtime == "torch"
        write_export(data, spec)
        if asked == "status":
            engine.status()
        elif asked == "search":
            await ask(engine, "swarm")
        else:
            await engine.index()
        async for status in engine.watch(at_most_every=0):
            if [each.runtime for each in status.models] == ["onnx", "onnx"]:
                break
        prepared = folder.model.spec
        assert prepared is not None and (prepared.runtime, prepared.key) == ("onnx", spec.key)
        after = await engine.index()
    assert after.complete
    assert (after.work.chunks_embedded, after.work.files_read) == (0, 0)


async def test_status_says_what_a_model_would_gain_or_why_it_cannot(tmp_path: Path) -> None:
    model, data = slow_model(tmp_path / "model"), tmp_path / "data"
    config = settings(data)
    (gains,) = ModelResolver(config).available([str(model)])
    assert (gains.local, gains.runtime) == (True, "torch")
    assert gains.reason == "Prepared, it would start faster and use less memory."
    assert gains.remedy == f"Run: folder-mcp models prepare {model}"
    chosen = replace(config, model=replace(config.model, runtime="torch"))
    (same,) = ModelResolver(chosen).available([str(model)])
    assert same.reason == same.remedy == "", "a runtime that the user has chosen is left alone"
    spec = ModelResolver(config).for_folder(str(model)).spec
    assert spec is not None
    write_export(data, spec, "its vectors differ")
    (refused,) = ModelResolver(config).available([str(model)])
    assert refused.reason == "Only torch loads it: its ONNX form was refused, its vectors differ."
    assert refused.remedy == ""


@pytest.mark.slow
async def test_a_folder_whose_model_is_pickled_waits_for_it_to_be_converted(tmp_path: Path, notes: Path) -> None:
    import torch
    from safetensors.torch import load_file

    model, data = write_bert(tmp_path / "model"), tmp_path / "data"
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    config = replace(settings(data), folders=(FolderSettings(path=str(notes), model=str(model)),))
    async with engine_over(data, config=config) as engine:
        assert not (await engine.index()).complete
        (folder,) = engine.status().folders
        assert "cannot be loaded yet: its weights are pickled" in folder.detail
        assert f"Run: folder-mcp models prepare {model}" in folder.detail
        answer = await ask(engine, "swarm")
        assert (answer.semantic.code, len(answer.hits)) == ("unprepared", 1)
        assert convert_weights(model, pickled_files(model), module_paths(model), data, str).ok
        report = await engine.index()
    assert report.complete and report.embedded == report.chunks > 0


@pytest.mark.parametrize("damaged", ["modules.json", "config.json", "tokenizer.json"])
def test_a_damaged_model_is_reported_and_never_raised(tmp_path: Path, damaged: str) -> None:
    directory = local_model(tmp_path / "model", b"\1" * 64)
    (directory / damaged).write_text('["not what it should be"', encoding="utf-8")
    models = ModelResolver(settings(tmp_path / "data"))
    found = models.for_folder(str(directory))
    assert found.spec is None and found.problem is not None
    assert found.problem.code == "corrupt_files"
    assert found.tokens.count("bees") >= 1


def test_a_configuration_of_odd_content_is_a_damaged_model(tmp_path: Path) -> None:
    directory = local_model(tmp_path / "model", b"\1" * 64)
    (directory / "modules.json").write_text('["text", "text"]', encoding="utf-8")
    (described,) = ModelResolver(settings(tmp_path / "data")).available([str(directory)])
    assert not described.local
    assert "damaged" in described.reason and described.remedy


def test_the_size_counts_what_the_hub_cache_links_to(tmp_path: Path) -> None:
    config = replace(settings(tmp_path / "data"), hub_cache=tmp_path / "hub")
    snapshot = Path(write_hub(config.hub_cache, "acme/tiny"))
    blobs = [file.stat().st_size for file in snapshot.rglob("*") if file.is_file()]
    (found,) = ModelResolver(config).available(["acme/tiny"])
    assert found.local and found.size == sum(blobs) > 1000
