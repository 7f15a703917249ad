"""A model that only torch can load, in the whole program: torch first, then its ONNX form, then no torch at all."""

import subprocess
import sys
from pathlib import Path

import anyio
import hypothesis  # noqa: F401 - its plugin would at the end, and trip over what the slot has frozen
import numpy as np
import pytest
from engines import ask, settings
from tiny_models import write_mpnet

from indexer.engine import open_engine
from indexer.model.exports import exported, verdict
from indexer.model.loading import RuntimeLoader

ROOT = Path(__file__).resolve().parents[2]
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
@pytest.mark.timeout(400)  # imports torch, exports, and starts a second process
@pytest.mark.filterwarnings("ignore")
async def test_torch_serves_until_the_onnx_form_has_been_made_and_is_needed_no_more_after_that(tmp_path):
    model, folder, data = write_mpnet(tmp_path / "mpnet"), tmp_path / "folder", tmp_path / "data"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    async with open_engine(settings(data), version="test") as engine:
        with anyio.fail_after(240):
            await engine.add_folder(str(folder), str(model))
            live = engine._folders.get(str(folder))
            torch_spec = live.model.spec
            assert torch_spec.runtime == "torch"
            report = await engine.index()
            embedded = report.work.chunks_embedded
            assert report.complete and embedded >= len(TEXTS)
            async for _ in engine.watch():
                if live.model.spec.runtime == "onnx":
                    break
            assert "exporting" in [change.state for change in (await engine.history()).changes]
            answer = await ask(engine, "notice period", "semantic")
            assert answer.semantic.status == "served"
            slot = engine.status().slot
            assert (slot.model.runtime, slot.model.key) == ("onnx", torch_spec.key)
            assert engine.status().work.chunks_embedded == embedded, "nothing is embedded again"
    found = verdict(data, torch_spec.key)
    assert found.ok and found.cosine >= 0.999
    home, _ = exported(data, torch_spec.key)
    assert live.model.spec.directory == str(home)
    cosines = (vectors(torch_spec) * vectors(live.model.spec)).sum(axis=1)
    assert float(np.min(cosines)) >= 0.9999
    later = subprocess.run(
        [sys.executable, "-c", LATER, str(data)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert later.returncode == 0, later.stderr
    assert later.stdout.split() == ["True", "served", "0"]
