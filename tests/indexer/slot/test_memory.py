"""Giving memory back: the order of the steps, the proof, the floor, and that stored errors hold nothing."""

import gc
import subprocess
import sys
import textwrap
import weakref

import pytest
from fakes import FakeLoader, HashEmbedder, model_spec, virtual_backend, virtual_slot

from indexer.errors import SlotUnavailable
from indexer.slot.slot_types import SlotSettings
from indexer.slot.thread import ReleaseSteps, anonymous_bytes, device_bytes, malloc_trim, resident_bytes, unload

A = model_spec("a")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return virtual_backend(request.param)


def recorded(steps, loader):
    loader.release = lambda: steps.append("release")
    return ReleaseSteps(
        collect=lambda: steps.append("collect"),
        freeze=lambda: steps.append("freeze"),
        trim=lambda: steps.append("trim"),
    )


def test_the_steps_of_an_unload_come_in_this_order():
    steps, loader = [], FakeLoader()
    embedder = HashEmbedder(A)
    embedder.close = lambda: steps.append("close")
    box = [embedder]
    del embedder
    result = unload(box, loader, recorded(steps, loader))
    assert steps == ["close", "collect", "collect", "release", "trim"]
    assert not result.leaked and result.problems == () and box == []


def test_a_model_somebody_still_holds_is_reported_after_a_second_try():
    steps, loader = [], FakeLoader()
    kept = HashEmbedder(A)
    result = unload([kept], loader, recorded(steps, loader))
    assert result.leaked and steps.count("release") == 2


def test_an_unload_that_fails_half_way_does_the_other_half():
    steps, loader = [], FakeLoader()
    embedder = HashEmbedder(A)

    def fail():
        raise RuntimeError("cannot close")

    embedder.close = fail
    box, proof = [embedder], weakref.ref(embedder)
    del embedder
    release_steps = recorded(steps, loader)
    result = unload(box, loader, ReleaseSteps(collect=gc.collect, freeze=lambda: None, trim=release_steps.trim))
    assert result.problems == ("RuntimeError: cannot close",)
    assert steps == ["release", "trim"] and proof() is None and not result.leaked


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells anonymous memory")
def test_memory_is_read_from_the_system():
    before = anonymous_bytes()
    block = bytearray(b"x") * (64 << 20)
    assert anonymous_bytes() - before > 32 << 20
    assert resident_bytes() >= anonymous_bytes()
    del block
    malloc_trim()
    assert anonymous_bytes() - before < 32 << 20


async def test_unloading_is_proved_and_its_figures_are_in_the_status():
    loader = FakeLoader()
    async with virtual_slot(loader, release_steps=ReleaseSteps(freeze=lambda: None)) as (slot, _):
        async with slot.use(A) as lease:
            await lease.embed_query("x")
        model = loader.embedders[0]
        await slot.unload()
        assert model() is None
        memory = slot.status().memory
        assert not memory.leaked
        if sys.platform == "linux":
            assert memory.before_unload > 0 and memory.after_unload > 0 and memory.rss >= memory.rss_anon


async def test_a_leak_is_shown_and_the_next_model_is_loaded_all_the_same():
    loader = FakeLoader()
    async with virtual_slot(loader) as (slot, _):
        async with slot.use(A):
            kept = loader.embedders[0]()
        await slot.unload()
        assert slot.status().memory.leaked and slot.status().state == "idle"
        async with slot.use(model_spec("b")) as lease:
            await lease.embed_query("x")
        assert kept.closed == 1


async def test_an_error_that_a_caller_keeps_does_not_keep_the_model():
    loader = FakeLoader()

    def fail(kind, count):
        raise RuntimeError("in the middle of a batch")

    loader.work = fail
    async with virtual_slot(loader, release_steps=ReleaseSteps(freeze=lambda: None)) as (slot, _):
        kept = []
        try:
            async with slot.use(A) as lease:
                await lease.embed_passages(["x"])
        except SlotUnavailable as error:
            kept.append(error)
        await slot.unload()
        assert kept[0].code == "internal" and kept[0].__context__ is None
        assert loader.embedders[0]() is None and not slot.status().memory.leaked


async def test_a_loan_that_a_caller_keeps_does_not_keep_the_model():
    loader = FakeLoader()
    async with virtual_slot(loader, release_steps=ReleaseSteps(freeze=lambda: None)) as (slot, _):
        async with slot.use(A) as lease:
            await lease.embed_query("x")
        await slot.unload()
        assert lease.should_yield() and loader.embedders[0]() is None
        with pytest.raises(SlotUnavailable):
            await lease.embed_query("too late")


async def test_the_heap_is_frozen_once_after_the_first_import_and_the_floor_is_recorded():
    steps, loader = [], FakeLoader(stages=[("runtime", 1.0), ("weights", 1.0)])
    async with virtual_slot(loader, release_steps=recorded(steps, loader)) as (slot, _):
        assert slot.status().memory.floor_after_import is None
        async with slot.use(A):
            assert steps == ["collect", "freeze"]
        if sys.platform == "linux":
            assert slot.status().memory.floor_after_import > 0
        async with slot.use(model_spec("b")):
            pass
        assert steps.count("freeze") == 1


@pytest.mark.parametrize(("allow", "devices"), [(True, ["cuda", "cuda", "cpu"]), (False, ["cuda", "cuda"])])
async def test_a_load_that_does_not_fit_the_device_is_tried_again_and_then_on_the_cpu(allow, devices):
    loader = FakeLoader()
    loader.failures["a"] = [RuntimeError("CUDA out of memory. Tried to allocate"), RuntimeError("CUDA out of memory.")]
    spec = model_spec("a", device="cuda", dtype="float16")
    async with virtual_slot(loader, SlotSettings(allow_cpu_fallback=allow)) as (slot, _):
        if allow:
            async with slot.use(spec) as lease:
                assert (lease.spec.device, lease.spec.dtype) == ("cpu", "float32")
            async with slot.use(spec) as lease:
                await lease.embed_query("the same model serves the same asker")
            assert slot.status().model.device == "cpu" and slot.status().counters.loads == 1
        else:
            with pytest.raises(SlotUnavailable) as caught:
                async with slot.use(spec):
                    pass
            assert caught.value.code == "out_of_memory_device"
        assert [s.device for s in loader.specs] == devices
        assert loader.released == 2 if allow else loader.released == 1


async def test_a_load_that_does_not_fit_the_host_is_tried_once_more():
    loader = FakeLoader()
    loader.failures["a"] = [MemoryError()]
    async with virtual_slot(loader) as (slot, _), slot.use(A):
        assert loader.loads == ["a", "a"] and loader.released == 1


def test_figures_of_the_device_need_no_torch_and_do_not_import_it():
    script = """
        import sys, indexer.slot.slot, indexer.slot.thread as memory
        assert memory.device_bytes() == (None, None)
        heavy = {"torch", "numpy", "transformers", "tokenizers", "onnxruntime", "pyarrow"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)


def test_figures_of_the_device_come_from_a_torch_that_is_there(monkeypatch):
    class Cuda:
        def is_initialized(self):
            return True

        def memory_allocated(self):
            return 7

        def memory_reserved(self):
            return 9

    class Torch:
        cuda = Cuda()

    monkeypatch.setitem(sys.modules, "torch", Torch())
    assert device_bytes() == (7, 9)
