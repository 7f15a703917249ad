"""The process that prepares models, for real: it works, it is killed, its parent is killed, its disk is full."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_models import write_bert, write_mpnet

from indexer.errors import SlotUnavailable
from indexer.models.prepare import Outcome, Request, due_preparations, preparation_lock, spec_of
from mcp_server.cli.models import prepare_in_process
from mcp_server.version import ROOT as CODE

ROOT = Path(__file__).resolve().parents[2]
ENVIRON = dict(os.environ)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),  # each imports torch, some on a busy machine
]
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


@pytest.fixture
def torch_only(tmp_path: Path) -> Request:
    """A request for a model that only torch loads."""
    model = write_mpnet(tmp_path / "mpnet")
    return Request(str(model), str(tmp_path / "data"), str(tmp_path / "hub"), device="cpu")


def left(request: Request) -> list[str]:
    return sorted(p.name for p in (request.directory / "models").iterdir() if p.is_dir())


def children(pid: int) -> list[int]:
    """The processes that prepare a model for ``pid``; other tests of this process may have children too."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [int(child) for child in found if b"indexer.models.prepare" in Path(f"/proc/{child}/cmdline").read_bytes()]


def when(stage: str, act: Callable[[], object]) -> Callable[[str], None]:
    return lambda said: act() and None if said == stage else None


def test_it_makes_what_is_due_and_tells_of_each_stage(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    directory = write_mpnet(tmp_path / "mpnet")
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    request = Request(str(directory), str(tmp_path / "data"), str(tmp_path / "hub"), device="cpu")
    stages: list[str] = []
    outcomes = prepare_in_process(request, ENVIRON, stages.append)
    assert outcomes == [Outcome("safetensors", ""), Outcome("ONNX form", "")]
    assert stages == [
        "converting pytorch_model.bin", "computing checksums", "loading the model with torch",
        "writing the ONNX form", "loading the ONNX form", "comparing it with torch",
    ]  # fmt: skip
    assert due_preparations(request) == () and spec_of(request).runtime == "onnx"
    assert len(left(request)) == 2 and not any(name.endswith(".part") for name in left(request))


@linux
def test_killed_in_the_middle_it_leaves_nothing_and_the_next_one_begins_anew(torch_only: Request) -> None:
    def kill() -> None:
        (child,) = children(os.getpid())
        assert [name.endswith(".part") for name in left(torch_only)] == [True]
        os.kill(child, signal.SIGKILL)

    with pytest.raises(SlotUnavailable, match="was killed, perhaps because memory ran out") as caught:
        prepare_in_process(torch_only, ENVIRON, when("writing the ONNX form", kill))
    assert caught.value.code == "out_of_memory_host"
    assert left(torch_only) == []
    assert [preparation.name for preparation in due_preparations(torch_only)] == ["ONNX form"]
    assert prepare_in_process(torch_only, ENVIRON, lambda stage: None) == [Outcome("ONNX form", "")]


COMMAND = [sys.executable, "-m", "mcp_server"]


@pytest.fixture
def at_work(torch_only: Request) -> Iterator[tuple[subprocess.Popen[str], int, Request]]:
    """``folder-mcp models prepare``, its child's process id, and the request, while the ONNX form is being written."""
    process = subprocess.Popen(
        [*COMMAND, "--no-daemon", "--data-dir", torch_only.data_dir, "models", "prepare", torch_only.name],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "writing the ONNX form" in line:
                break
        (child,) = children(process.pid)
        yield process, child, torch_only
    finally:
        process.kill()
        process.communicate()


def ends(pid: int, seconds: float) -> bool:
    """Wait for the end of a process that is not ours."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


@linux
def test_ctrl_c_ends_it_and_leaves_nothing(at_work: tuple[subprocess.Popen[str], int, Request]) -> None:
    process, child, request = at_work
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in err and "Traceback" not in err
    assert ends(child, 30)
    assert left(request) == []


@linux
def test_a_killed_parent_takes_it_along_and_nothing_is_left(
    at_work: tuple[subprocess.Popen[str], int, Request],
) -> None:
    process, child, request = at_work
    process.kill()
    assert ends(child, 60)
    assert left(request) == []
    with preparation_lock(request.directory):
        assert [preparation.name for preparation in due_preparations(request)] == ["ONNX form"]


@linux
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, torch_only: Request) -> None:
    data = Path(torch_only.data_dir)
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=65m", "none", str(data)], check=False)
    if mounted.returncode != 0:
        pytest.skip("only a privileged user may mount a small disk")
    try:
        ballast = data / "ballast"

        def fill() -> None:
            free = os.statvfs(data)
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)

        with pytest.raises(SlotUnavailable) as caught:
            prepare_in_process(torch_only, ENVIRON, when("writing the ONNX form", fill))
        assert caught.value.code == "disk_full", str(caught.value)
        assert left(torch_only) == []
        ballast.unlink()
        assert [preparation.name for preparation in due_preparations(torch_only)] == ["ONNX form"], (
            "no refusal is recorded"
        )
    finally:
        subprocess.run(["umount", str(data)], check=True)


def searched(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Have the process search a directory for modules first, which a client cannot."""
    path = os.pathsep.join([CODE, str(directory)])
    monkeypatch.setattr("mcp_server.cli.models.user_environment", lambda environ: {**environ, "PYTHONPATH": path})


def test_a_missing_exporter_is_named_and_not_held_against_the_model(
    tmp_path: Path, torch_only: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "hidden" / "onnxscript"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('No module named onnxscript', name='onnxscript')")
    searched(monkeypatch, hidden.parent)
    with pytest.raises(SlotUnavailable, match="Making an ONNX form needs a package") as caught:
        prepare_in_process(torch_only, ENVIRON, lambda stage: None)
    assert caught.value.code == "dependency_missing" and caught.value.hint
    assert left(torch_only) == [] and len(due_preparations(torch_only)) == 1


def test_what_libraries_print_is_no_answer_and_goes_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    (noisy / "sitecustomize.py").write_text(
        "import atexit, os, sys\n"
        "class Loud:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'safetensors':\n"
        "            print('said on stdout', flush=True)\n"
        "            os.write(1, b'written to descriptor 1\\n')\n"
        "sys.meta_path.insert(0, Loud())\n"
    )
    import torch
    from safetensors.torch import load_file

    directory = write_bert(tmp_path / "m")
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    request = Request(str(directory), str(tmp_path / "data"), str(tmp_path / "hub"), device="cpu")
    searched(monkeypatch, noisy)
    with caplog.at_level("INFO"):
        outcomes = prepare_in_process(request, ENVIRON, lambda stage: None)
    assert outcomes == [Outcome("safetensors", "")]
    assert "written to descriptor 1" in caplog.text


def test_a_second_one_is_refused_while_the_first_is_at_work(torch_only: Request) -> None:
    with (
        preparation_lock(torch_only.directory),
        pytest.raises(SlotUnavailable, match="Another process prepares") as caught,
    ):
        prepare_in_process(torch_only, ENVIRON, lambda stage: None)
    assert caught.value.code == "busy" and "Run it again" in caught.value.hint
