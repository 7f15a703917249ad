"""Models here, missing and damaged."""

from __future__ import annotations

from pathlib import Path

from findings import by_name

from indexer.models.locate import Located, Missing
from indexer.models.prepared import verify
from indexer.status_types import ModelAvailability
from mcp_server.doctor.indexing import model_findings


def test_models_are_here_missing_or_damaged(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    places: dict[str, Located | Missing] = {
        "good": Located("/good", "hub"),
        "slow": Located("/slow", "hub"),
        "bad": Located(str(tmp_path), "embedded", (("model.safetensors", "0" * 64),)),
    }
    given = [
        ModelAvailability("good", True, 90_000_000, "onnx", "", ""),
        ModelAvailability("slow", True, 7, "torch", "Prepared, it gains.", "Run: folder-mcp models prepare slow"),
        ModelAvailability("bad", True, 7, "onnx", "", ""),
        ModelAvailability("gone", False, None, "", "The model gone is not on this machine.", "Run: pull"),
        ModelAvailability("unused", False, None, "", "The model unused is not on this machine.", "Run: pull"),
    ]
    found = by_name(model_findings(given, {"gone": ["/notes"]}, places.__getitem__, verify))
    assert found["model good"].detail == "here, 90 MB, files present, runs on onnx"
    assert found["model slow"].verdict == "ok"
    assert "runs on torch. Prepared, it gains. Run: folder-mcp models prepare slow" in found["model slow"].detail
    assert found["model bad"].verdict == "failure" and "SHA-256" in found["model bad"].detail
    assert found["model gone"].verdict == "failure"
    assert found["model gone"].detail.endswith("/notes is searched by word only.")
    assert found["model unused"].verdict == "warning"
