"""Exceptions get a code, one clean sentence and a remedy."""

import errno
import gc
import json
import time
import weakref

import pytest

from indexer.slot.failure import HINTS, Failure, ModelRefused, classify, failure, first_line


def named(name, *bases):
    return type(name, bases or (Exception,), {})


class Response:
    def __init__(self, retry_after):
        self.headers = {"Retry-After": retry_after}


def caused(outer, inner):
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (ImportError("No module named 'torch'", name="torch"), "dependency_missing", False),
        (OSError("libcudart.so.12: cannot open shared object file"), "dependency_missing", False),
        (named("RepositoryNotFoundError")("404"), "model_not_found", False),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/m/x.onnx"), "model_not_found", False),
        (named("LocalEntryNotFoundError", FileNotFoundError)("not cached"), "offline_missing", False),
        (named("GatedRepoError")("access to model is restricted"), "auth_required", False),
        (RuntimeError("401 Client Error: Unauthorized"), "auth_required", False),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "network", True),
        (named("ReadTimeout", named("Timeout", OSError))("read"), "network", True),
        (RuntimeError("503 Server Error: Service Unavailable"), "network", True),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full", False),
        (PermissionError(errno.EACCES, "Permission denied", "/m/x"), "permission", False),
        (named("SafetensorError")("Error while deserializing header: HeaderTooLarge"), "corrupt_files", False),
        (json.JSONDecodeError("Expecting value", "", 0), "corrupt_files", False),
        (RuntimeError("Load model failed: Protobuf parsing failed."), "corrupt_files", False),
        (ValueError("Loading x requires you to execute code; set trust_remote_code=True"), "incompatible", False),
        (ValueError("Transformers does not recognize this architecture"), "incompatible", False),
        (named("OutOfMemoryError", RuntimeError)("CUDA out of memory. Tried"), "out_of_memory_device", False),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), "out_of_memory_device", False),
        (MemoryError(), "out_of_memory_host", False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory_host", False),
        (RuntimeError("std::bad_alloc"), "out_of_memory_host", False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "device_lost", False),
        (RuntimeError("CUDA error: device-side assert triggered"), "device_lost", False),
        (
            RuntimeError("The NVIDIA driver on your system is too old: driver version is insufficient"),
            "device_lost",
            False,
        ),
        (KeyError("oops"), "internal", True),
        (ModelRefused("incompatible", "The vectors have 3 numbers, the index wants 4."), "incompatible", False),
    ],
)
def test_what_libraries_raise_gets_the_right_code(error, code, retryable):
    found = classify(error)
    assert (found.code, found.retryable) == (code, retryable)
    assert (found.message and found.hint == HINTS[code]) or "torch" in found.hint


def test_the_cause_names_a_failure_the_outer_error_does_not():
    found = classify(caused(RuntimeError("could not load"), PermissionError(errno.EACCES, "Permission denied")))
    assert found.code == "permission" and found.message == "could not load"


def test_a_missing_package_is_named_in_the_hint():
    assert "'sentence_transformers'" in classify(ImportError("x", name="sentence_transformers")).hint


def test_the_other_side_may_say_when_to_come_back():
    error = named("HTTPError", OSError)("429 Too Many Requests")
    error.response = Response("42")
    assert classify(error) == Failure("network", "429 Too Many Requests", HINTS["network"], True, 42.0)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: no", ". DefaultCPUAllocator: no"),
        ("bad thing (Triggered internally at /pytorch/aten/src/ATen/Context.cpp:45.)", "bad thing"),
        (
            "/onnxruntime_src/onnxruntime/core/graph/model.cc:182 Unsupported model IR version: 11",
            "Unsupported model IR version: 11",
        ),
        (r"C:\build\torch\csrc\x.cpp:12: no device", "no device"),
        ("failed at ../c10/core/impl.h:9", "failed"),
        ("first\nsecond", "first"),
        ("\n  \n...\nsaid  it", "said it"),
        ("cannot read /home/me/models/a/model.onnx", "cannot read /home/me/models/a/model.onnx"),
    ],
)
def test_messages_are_one_sentence_without_build_paths(raw, clean):
    assert first_line(raw) == clean


def test_long_messages_are_cut_and_do_not_take_long():
    began = time.perf_counter()
    for text in ("x" * 100_000, "a/" * 50_000, "at " * 30_000, "." * 100_000):
        assert len(first_line(text)) <= 300
    assert time.perf_counter() - began < 2
    assert len(first_line("x" * 10_000)) == 300 and first_line("x" * 10_000).endswith("…")


def test_every_code_has_a_hint_and_a_rule():
    for code in HINTS:
        assert failure(code, "m").hint


def test_a_failure_as_an_exception_carries_everything():
    error = failure("busy", "Too many.").unavailable(1.5)
    assert (error.code, str(error), error.retry_after) == ("busy", "Too many.", 1.5) and error.hint


def test_a_classified_error_keeps_nothing_of_the_frames_it_came_from():
    class Weights:
        pass

    refs = []

    def load():
        weights = Weights()
        refs.append(weakref.ref(weights))
        raise RuntimeError("half-way")

    try:
        load()
    except RuntimeError as error:
        found = classify(error)
    gc.collect()
    assert found.code == "internal" and refs[0]() is None
