"""Exports in the background: behind everybody, once, taken up by the folders; and once with real weights."""

import json
from contextlib import asynccontextmanager
from dataclasses import asdict, replace

import anyio
import pytest
from engines import settings
from fakes import FakeLoader, model_spec, virtual_backend, virtual_slot

from indexer.export_pass import ExportPass
from indexer.folder import FolderModel, Folders, LiveFolder
from indexer.known_folders import KnownFolder
from indexer.model.exports import Verdict, verdict
from indexer.model.priority_lock import Priority
from indexer.pulse import Pulse

SPEC = model_spec("torch-only", runtime="torch", device="cpu")
NEXT = model_spec("next", runtime="torch", device="cpu")
OTHER = model_spec("other", runtime="onnx")
# The pass looks at the disk in a worker thread, whose time no virtual clock knows: no test waits for it with a limit,
# and that a model was left alone shows when the next one's turn has come.


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return virtual_backend(request.param)


def folder_model(spec):
    return FolderModel(spec.name, spec, None, None, None)


class FakeModels:
    """Resolves to the ONNX form as soon as one is recorded."""

    def __init__(self, data):
        self.data, self.asked = data, []

    def again(self, name):
        self.asked.append(name)
        spec = SPEC if name == SPEC.name else NEXT
        found = verdict(self.data, spec.key)
        return folder_model(replace(spec, runtime="onnx") if found and found.ok else spec)


class Making:
    """Two steps of ten seconds with a model each, then a record; what it records is given."""

    def __init__(self, thread, reason=""):
        self.thread, self.reason, self.begun = thread, reason, []

    def __call__(self, spec, loader, data_dir, progress, stopped):
        self.begun.append(spec.name)
        for runtime in ("torch", "onnx"):
            model = loader.load(replace(spec, runtime=runtime), progress, stopped)
            try:
                yield
                progress("writing", 0.3)
                self.thread.sleep(10)
            finally:
                model.close()
                del model
            yield
        home = data_dir / "models" / spec.key
        home.mkdir(parents=True)
        outcome = Verdict(spec.key, not self.reason, self.reason)
        (home / "export.json").write_text(json.dumps(asdict(outcome)), encoding="utf-8")
        return outcome


class Setting:
    """Two folders on models that only torch can load, and the pass over them."""

    def __init__(self, slot, thread, loader, data, reason="", runtime="auto"):
        self.folders, self.pulse, self.models = Folders(), Pulse(), FakeModels(data)
        self.making, self.slot, self.changed = Making(thread, reason), slot, []
        for rank, spec in enumerate((SPEC, NEXT)):
            self.folders.put(LiveFolder(KnownFolder(f"/{spec.name}"), rank, folder_model(spec), None))
        config = settings(data)
        config = replace(config, model=replace(config.model, runtime=runtime))
        shared = (self.models, config, self.folders, self.pulse, lambda: self.changed.append(1))
        self.run = ExportPass(slot, loader, *shared, self.making).run

    async def export_of(self, spec):
        """Wait until it is being made."""
        async for status in self.slot.watch():
            if status.state == "exporting" and status.stage and status.model.name == spec.name:
                break

    @property
    def runtime(self):
        return self.folders.get("/torch-only").model.spec.runtime


@asynccontextmanager
async def setting(data, loader, reason=""):
    async with virtual_slot(loader) as (slot, thread), anyio.create_task_group() as tasks:
        play = Setting(slot, thread, loader, data, reason)
        tasks.start_soon(play.run)
        yield play
        tasks.cancel_scope.cancel()


async def test_an_export_is_made_once_and_taken_up(tmp_path):
    loader = FakeLoader()
    async with setting(tmp_path, loader) as play:
        await play.export_of(NEXT)
        assert play.making.begun == ["torch-only", "next"]
        assert (play.runtime, play.models.asked, play.changed) == ("onnx", ["torch-only"], [1])
        await play.slot.wait_for("idle")
        assert play.slot.status().model is None and not loader.alive
    assert loader.most_alive == 1
    (tmp_path / "models" / NEXT.key / "export.json").unlink(missing_ok=True)
    async with setting(tmp_path, loader) as play:  # as after a restart, before the folder is resolved anew
        await play.export_of(NEXT)
        assert play.making.begun == ["next"]


async def test_a_tool_call_during_an_export_waits_for_one_step_at_most(tmp_path):
    loader = FakeLoader()
    async with setting(tmp_path, loader) as play:
        await play.export_of(SPEC)
        await anyio.sleep(3)
        before = anyio.current_time()
        async with play.slot.use(SPEC) as lent:
            await lent.embed_query("x")
        assert anyio.current_time() - before <= 10
        given_back = anyio.current_time()
        await play.export_of(SPEC)  # again when the warm window is over
        assert anyio.current_time() - given_back == pytest.approx(300)
        await play.export_of(NEXT)
        assert play.making.begun == ["torch-only", "torch-only", "next"]
    assert loader.most_alive == 1


async def test_indexing_goes_first(tmp_path):
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, thread), anyio.create_task_group() as tasks:
        play = Setting(slot, thread, loader, tmp_path)
        async with slot.use(OTHER, Priority.INDEX) as lent:
            tasks.start_soon(play.run)
            while not slot._lock.statistics().waiting[Priority.SPARE]:
                await anyio.lowlevel.checkpoint()
            await lent.embed_passages(["x"])
            assert not lent.should_yield()
            assert not play.making.begun
        await play.export_of(SPEC)
        tasks.cancel_scope.cancel()
    assert loader.most_alive == 1


async def test_a_refusal_is_recorded_and_the_model_stays_with_torch(tmp_path):
    loader = FakeLoader()
    async with setting(tmp_path, loader, reason="its vectors differ from torch's") as play:
        await play.export_of(NEXT)
        assert (play.runtime, play.models.asked, play.changed) == ("torch", [], [1])
        assert verdict(tmp_path, SPEC.key).reason == "its vectors differ from torch's"
    async with setting(tmp_path, loader) as play:
        await play.export_of(NEXT)
        assert play.making.begun == ["next"], "a refused export is never made again"


async def test_a_failure_that_is_not_the_models_is_tried_again_at_the_next_start_only(tmp_path):
    loader = FakeLoader()
    loader.failures[SPEC.key] = [OSError(28, "No space left on device")]
    async with setting(tmp_path, loader) as play:
        await play.export_of(NEXT)
        play.pulse.beat()
        await play.slot.wait_for("idle")
        assert play.making.begun == ["torch-only", "next"]
        assert verdict(tmp_path, SPEC.key) is None
    async with setting(tmp_path, loader) as play:
        await play.export_of(SPEC)


async def test_a_runtime_the_user_has_chosen_is_not_exchanged(tmp_path):
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, thread):
        play = Setting(slot, thread, loader, tmp_path, runtime="torch")
        await play.run()
        assert not play.making.begun
