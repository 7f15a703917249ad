"""A model that only torch can load, in the whole program: torch first, then prepared, then no torch at all."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import hypothesis  # noqa: F401 - its plugin would at the end, and trip over what the slot has frozen
import numpy as np
import pytest
from anyio import to_thread
from engines import ask, settings
from tiny_models import write_mpnet

from indexer.engine import open_engine
from indexer.models.loader import RuntimeLoader
from indexer.models.prepare import Outcome, Request
from indexer.models.prepared import EXPORT_RECORD, find_prepared, read_verdict
from mcp_server.cli.models import prepare_in_process

ROOT = Path(__file__).resolve().parents[3]
TEXTS = ["the lease is valid", "how long is the notice period of a contract " * 3, "valve", "wine in a glass"]
LATER = """
import sys
for name in ("torch", "transformers", "sentence_transformers", "onnxscript"):
    sys.modules[name] = None  # importing it fails
import anyio
from pathlib import Path
sys.path.insert(0, "tests/support")
from engines import ask, settings
from indexer.engine import open_engine

async def main():
    async with open_engine(settings(Path(sys.argv[1])), version="test") as engine:
        with anyio.fail_after(60):
            report = await engine.index()
            answer = await ask(engine, "notice period", "semantic")
    assert report.complete, report
    print(len(answer.hits) > 0, answer.semantic.status, report.work.chunks_embedded)

anyio.run(main)
"""


@pytest.fixture
def anyio_backend():
    return "asyncio"


def vectors(spec):
    model = RuntimeLoader().load(spec, lambda stage, done: None, lambda: False)
    try:
        return model.embed_passages(TEXTS)
    finally:
        model.close()


@pytest.mark.slow
@pytest.mark.timeout(400)  # imports torch in two processes, and starts a third
@pytest.mark.filterwarnings("ignore")
async def test_torch_serves_until_the_model_is_prepared_and_is_needed_no_more_after_that(tmp_path):
    model, folder, data = write_mpnet(tmp_path / "mpnet"), tmp_path / "folder", tmp_path / "data"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    request = Request(str(model), str(data), str(tmp_path / "hub"))
    async with open_engine(settings(data), version="test") as engine:
        with anyio.fail_after(300):
            await engine.add_folder(str(folder), str(model))
            live = engine._folders.get(str(folder))
            torch_spec = live.model.spec
            assert torch_spec.runtime == "torch"
            report = await engine.index()
            before = engine.status().work
            assert report.complete and before.chunks_embedded >= len(TEXTS)
            assert (await ask(engine, "notice period", "semantic")).semantic.status == "served"
            engine.status()
            async for status in engine.watch():
                (found,) = [each for each in status.models if each.name == str(model)] or [None]
                if found:
                    break
            assert (found.local, found.runtime) == (True, "torch")
            assert "start faster" in found.reason and found.remedy == f"Run: folder-mcp models prepare {model}"
            outcomes = await to_thread.run_sync(prepare_in_process, request, dict(os.environ), lambda stage: None)
            assert outcomes == [Outcome("ONNX form", "")]
            engine.status()  # as the command does at its end
            async for status in engine.watch():
                (found,) = [each for each in status.models if each.name == str(model)]
                if live.model.spec.runtime == "onnx" and found.runtime == "onnx":
                    break
            assert found.reason == found.remedy == ""
            answer = await ask(engine, "notice period", "semantic")
            assert answer.semantic.status == "served"
            slot = engine.status().slot
            assert (slot.model.runtime, slot.model.key) == ("onnx", torch_spec.key)
            assert (await engine.index()).complete
            after = engine.status().work
            assert after == replace(before, files_walked=after.files_walked), "nothing is read or embedded again"
    found = read_verdict(data, torch_spec.key, EXPORT_RECORD)
    assert found.ok and found.cosine >= 0.999
    home, _ = find_prepared(data, torch_spec.key, EXPORT_RECORD)
    assert live.model.spec.directory == str(home)
    cosines = (vectors(torch_spec) * vectors(live.model.spec)).sum(axis=1)
    assert float(np.min(cosines)) >= 0.9999
    later = subprocess.run(
        [sys.executable, "-c", LATER, str(data)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert later.returncode == 0, later.stderr
    assert later.stdout.split() == ["True", "served", "0"]
