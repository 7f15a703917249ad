"""``folder-mcp models``: the list, and pulls from a hub that is a directory."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from fakes_engine import open_fake
from tiny_models import write_bert, write_hub

from indexer.errors import SlotUnavailable
from indexer.models.locate import find
from indexer.models.prepare import Outcome, Request
from indexer.status_types import ModelAvailability
from mcp_server.cli import main, models
from mcp_server.cli.call import Call
from mcp_server.cli.models import ModelsResult
from mcp_server.cli.progress import DownloadLines
from mcp_server.protocol.render import model_line


class LocalHub:
    """A hub whose repositories are directories of one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def files(self, repo: str) -> Mapping[str, int]:
        place = self.root / repo
        return {str(f.relative_to(place)): f.stat().st_size for f in place.rglob("*") if f.is_file()}

    def fetch(self, repo: str, names: list[str], cache: Path, advance: Callable[[int], None]) -> None:
        snapshot = cache / ("models--" + repo.replace("/", "--")) / "snapshots" / ("c" * 40)
        for name in names:
            target = snapshot / name
            if not target.exists():  # as the client: what an earlier attempt fetched is not fetched again
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.root / repo / name, target)
            advance(target.stat().st_size)


class BrokenHub(LocalHub):
    """A hub whose client raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def files(self, repo: str) -> Mapping[str, int]:
        raise self.error


@pytest.fixture
def hub(tmp_path: Path) -> LocalHub:
    snapshot = write_hub(tmp_path / "far", "acme/tiny")
    shutil.copytree(snapshot, tmp_path / "hub" / "acme" / "tiny")
    return LocalHub(tmp_path / "hub")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "HOME": str(tmp_path),
        "FOLDER_MCP_DATA_DIR": str(tmp_path / "data"),
        "HF_HUB_CACHE": str(tmp_path / "cache"),
    }


@pytest.fixture(autouse=True)
def quiet_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before):
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


def call_for(environ: dict[str, str], name: str, *, no_prepare: bool = False) -> Call:
    args = argparse.Namespace(
        config=None, data_dir=None, no_daemon=True, name=name, runtime="auto", no_prepare=no_prepare
    )
    return Call(args, environ, open_fake)


@pytest.fixture
def pickled_hub(hub: LocalHub) -> LocalHub:
    """A hub whose one repository has pickled weights and no others."""
    import torch
    from safetensors.torch import load_file

    place = hub.root / "acme" / "tiny"
    torch.save(load_file(place / "model.safetensors"), place / "pytorch_model.bin")
    (place / "model.safetensors").unlink()
    return hub


def test_the_list_says_what_is_here_and_who_uses_it(
    tmp_path: Path, notes: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert main.main(["folders", "add", str(notes), "--model", "acme/tiny"], environ, open_fake) == 0
    assert main.main(["folders", "add", str(other), "--model", "BAAI/bge-m3"], environ, open_fake) == 0
    write_hub(tmp_path / "cache", "acme/tiny")
    capsys.readouterr()
    assert main.main(["models", "list", "--json"], environ, open_fake) == 0
    result = ModelsResult.model_validate_json(capsys.readouterr().out)
    by_name = {model.name: model for model in result.models}
    default = by_name["all-MiniLM-L6-v2"]
    assert (default.default, default.local, default.dimension, default.context) == (True, True, 384, 256)
    assert default.licence == "Apache-2.0" and default.folders == []
    assert (by_name["acme/tiny"].local, by_name["acme/tiny"].folders) == (True, [str(notes)])
    assert by_name["bge-m3"].folders == [str(other)], "the repository's name means the catalogue's entry"
    assert not by_name["bge-m3"].local and "models pull" in by_name["bge-m3"].remedy
    assert by_name["multilingual-e5-small"].query_prompt == "query: "
    assert by_name["embeddinggemma-300m"].gated
    assert result.hub_cache == str(tmp_path / "cache") and not result.offline


def test_the_list_for_people_names_the_missing_model_of_a_folder(
    notes: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["folders", "add", str(notes), "--model", "bge-m3"], environ, open_fake)
    assert main.main(["models"], environ, open_fake) == 0
    out = capsys.readouterr().out
    assert "all-MiniLM-L6-v2  (here, onnx, " in out
    at = out.index("bge-m3  (not here, 2.3 GB)")
    assert f"used by {notes}" in out[at : at + 500]
    assert "The model bge-m3 is not on this machine. Run: folder-mcp models pull bge-m3" in out


def test_a_pull_fetches_and_says_where(
    tmp_path: Path, hub: LocalHub, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert models.pull(call_for(environ, "acme/tiny"), hub) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"acme/tiny is on this machine: {tmp_path / 'cache'}")
    lines = captured.err.splitlines()
    assert lines[0].startswith("acme/tiny: 0 bytes of ")
    total = lines[0].split(" of ")[1]
    assert lines[-1] == f"acme/tiny: {total} of {total}"
    assert not any(path.name == "pytorch_model.bin" for path in (tmp_path / "cache").rglob("*"))


def test_a_model_that_is_here_needs_no_hub(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert models.pull(call_for(environ, "all-MiniLM-L6-v2"), BrokenHub(AssertionError("asked"))) == 0
    assert "is on this machine" in capsys.readouterr().out


def test_offline_mode_refuses(
    tmp_path: Path, hub: LocalHub, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    environ["HF_HUB_OFFLINE"] = "1"
    assert models.pull(call_for(environ, "acme/tiny"), hub) == 1
    assert "Offline mode is on" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


class GatedRepoError(OSError):
    """Named as the hub's client names it."""


@pytest.mark.parametrize(
    ("name", "error", "code", "words"),
    [
        ("multilingal-e5-small", None, 2, "Did you mean multilingual-e5-small?"),
        ("bge-m4", None, 2, "Did you mean bge-m3?"),
        ("nothing-like-it-at-all", None, 2, "models list"),
        ("/some/dir", None, 2, "is a directory"),
        (
            "embeddinggemma-300m",
            GatedRepoError("401 Client Error"),
            1,
            "https://huggingface.co/google/embeddinggemma-300m",
        ),
        ("acme/tiny", ConnectionError("connection refused"), 1, "Check the connection"),
        ("acme/tiny", OSError(28, "No space left on device"), 1, "Free space"),
    ],
)
def test_every_refusal_is_one_line_with_a_remedy(
    environ: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    name: str,
    error: Exception | None,
    code: int,
    words: str,
) -> None:
    assert models.pull(call_for(environ, name), BrokenHub(error or AssertionError("asked"))) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("folder-mcp: ") and captured.err.count("\n") == 1
    assert words in captured.err


def test_a_full_disk_is_seen_before_the_first_byte(
    tmp_path: Path, hub: LocalHub, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    class Huge(LocalHub):
        def files(self, repo: str) -> Mapping[str, int]:
            return {**super().files(repo), "model.safetensors": 1 << 60}

    assert models.pull(call_for(environ, "acme/tiny"), Huge(hub.root)) == 1
    assert "MiB free" in capsys.readouterr().err
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_lines_come_at_most_every_five_seconds_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    lines = DownloadLines("m", clock=lambda: now)
    for done in range(0, 1000, 100):
        lines(done, 1000)
    now = 106.0
    lines(950, 1000)
    lines(1000, 1000)
    lines(1000, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "m: 0 bytes of 1.0 kB", "m: 950 bytes of 1.0 kB", "m: 1.0 kB of 1.0 kB"
    ]  # fmt: skip


@pytest.mark.slow
def test_pickled_weights_are_pulled_and_wait_when_nothing_is_to_be_prepared(
    tmp_path: Path, pickled_hub: LocalHub, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert models.pull(call_for(environ, "acme/tiny", no_prepare=True), pickled_hub) == 0
    assert "is on this machine" in capsys.readouterr().out
    main.main(["folders", "add", str(tmp_path / "hub"), "--model", "acme/tiny"], environ, open_fake)
    capsys.readouterr()
    assert main.main(["models"], environ, open_fake) == 0
    out = capsys.readouterr().out
    at = out.index("acme/tiny  (here, not loadable yet, ")
    assert "cannot be loaded yet: its weights are pickled" in out[at:]
    assert "Run: folder-mcp models prepare acme/tiny" in out[at:]


@pytest.mark.slow
@pytest.mark.timeout(300)  # a process that imports torch
def test_pickled_weights_are_pulled_and_converted_and_then_need_nothing(
    tmp_path: Path, pickled_hub: LocalHub, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert models.pull(call_for(os.environ | environ, "acme/tiny"), pickled_hub) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1:] == [
        "acme/tiny: safetensors made and verified", "acme/tiny is loaded by onnx"
    ]  # fmt: skip
    assert "acme/tiny: converting pytorch_model.bin" in captured.err.splitlines()
    assert models.pull(call_for(environ, "acme/tiny"), BrokenHub(AssertionError("asked"))) == 0
    capsys.readouterr()
    assert main.main(["models", "prepare", "acme/tiny"], environ, open_fake) == 0
    assert capsys.readouterr().out == "nothing to prepare: onnx loads acme/tiny on cpu\n"


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], list[Request]]:
    """Let the process that prepares models answer with outcomes, or raise; gives back what it was asked."""

    def answering(answer: object) -> list[Request]:
        asked: list[Request] = []

        def run(request: Request, environ: Mapping[str, str], said: Callable[[str], None]) -> object:
            asked.append(request)
            said("writing the ONNX form")
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(models, "prepare_in_process", run)
        return asked

    return answering


def test_a_directory_is_prepared_by_whatever_way_it_is_named(
    tmp_path: Path,
    environ: dict[str, str],
    prepared: Callable[[object], list[Request]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_bert(tmp_path / "m", hidden_act="relu")
    monkeypatch.chdir(tmp_path)
    asked = prepared([Outcome("ONNX form", "its vectors differ")])
    assert main.main(["models", "prepare", "./m"], environ, open_fake) == 0, "torch serves it all the same"
    assert asked[0].name == str(tmp_path / "m"), "the process has another working directory"
    captured = capsys.readouterr()
    assert captured.out == "./m: ONNX form refused: its vectors differ\n./m is loaded by torch\n"
    assert captured.err == "./m: writing the ONNX form\n"


def test_weights_that_were_refused_leave_nothing_to_load(
    tmp_path: Path,
    environ: dict[str, str],
    prepared: Callable[[object], list[Request]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = write_bert(tmp_path / "m")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    prepared([Outcome("safetensors", "pytorch_model.bin holds more than tensors")])
    assert main.main(["models", "prepare", str(directory)], environ, open_fake) == 1
    captured = capsys.readouterr()
    assert "safetensors refused: pytorch_model.bin holds more than tensors" in captured.out
    assert "cannot be loaded" in captured.err


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("acme/none", 1, "Run: folder-mcp models pull acme/none"),
        ("bge-m4", 2, "Did you mean bge-m3?"),
        ("/no/such/model", 2, "Check the path."),
    ],
)
def test_what_is_not_here_is_not_prepared_and_says_how_to_get_it(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], name: str, code: int, words: str
) -> None:
    assert main.main(["models", "prepare", name], environ, open_fake) == code
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert words in captured.err


def test_a_failure_says_what_and_what_to_do(
    tmp_path: Path,
    environ: dict[str, str],
    prepared: Callable[[object], list[Request]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepared(SlotUnavailable("disk_full", "The ONNX form needs 9 MiB.", "Free space."))
    model = write_bert(tmp_path / "m", hidden_act="relu")
    assert main.main(["models", "prepare", str(model)], environ, open_fake) == 1
    assert "folder-mcp: The ONNX form needs 9 MiB. Free space." in capsys.readouterr().err


def test_what_cannot_be_prepared_has_been_pulled_all_the_same(
    tmp_path: Path, hub: LocalHub, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = hub.root / "acme" / "tiny" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": {"AutoModel": "m.M"}}))
    assert models.pull(call_for(environ, "acme/tiny"), hub) == 0
    captured = capsys.readouterr()
    assert "is on this machine" in captured.out
    assert "runs only with code from its own repository" in captured.err
    assert find("acme/tiny", hub_cache=tmp_path / "cache")


def test_status_says_in_one_line_what_a_model_would_gain() -> None:
    gain = {"reason": "Prepared, it gains.", "remedy": "Run: folder-mcp models prepare m"}
    model = ModelAvailability("m", local=True, size=1, runtime="torch", **gain)
    said = "Model m: on this machine, loaded by torch"
    assert model_line(model) == f"{said}. Prepared, it gains. Run: folder-mcp models prepare m"
    assert model_line(replace(model, reason="", remedy=""), ", 1 MB") == f"{said}, 1 MB"


def test_the_list_says_which_models_would_gain(
    tmp_path: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_bert(tmp_path / "m", hidden_act="relu")
    (tmp_path / "notes").mkdir()
    main.main(["folders", "add", str(tmp_path / "notes"), "--model", str(model)], environ, open_fake)
    capsys.readouterr()
    assert main.main(["models"], environ, open_fake) == 0
    out = capsys.readouterr().out
    at = out.index(f"{model}  (here, torch, ")
    assert f"it would start faster and use less memory. Run: folder-mcp models prepare {model}" in out[at:]


SLOW_PULL = """
import sys, time
from pathlib import Path
from test_models import LocalHub, call_for
from mcp_server.cli import models
class Slow(LocalHub):
    def fetch(self, repo, names, cache, advance):
        super().fetch(repo, names[:1], cache, advance)
        print("begun", flush=True)
        time.sleep(60)
environ = {"FOLDER_MCP_DATA_DIR": sys.argv[1] + "/data", "HF_HUB_CACHE": sys.argv[1] + "/cache"}
models.pull(call_for(environ, "acme/tiny"), Slow(Path(sys.argv[1]) / "hub"))
"""


@pytest.mark.slow
def test_ctrl_c_ends_a_download_at_once_and_keeps_what_it_fetched(tmp_path: Path, hub: LocalHub) -> None:
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here), str(here.parents[1] / "support"), str(here.parents[2])])
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_PULL, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert process.stdout and process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "interrupted; what was fetched of acme/tiny is kept" in err
    assert list((tmp_path / "cache").rglob("*.json"))


def test_the_document_is_json_without_anything_else(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["models", "--json"], environ, open_fake) == 0
    assert len(json.loads(capsys.readouterr().out)["models"]) >= 12
