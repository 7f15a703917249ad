from __future__ import annotations

from pathlib import Path

from tiny_models import write_bert, write_hub

from indexer.models.catalogue import entries
from indexer.models.locate import availability


def test_the_whole_catalogue_is_looked_for_and_only_the_embedded_model_is_here(tmp_path: Path) -> None:
    found = availability(hub_cache=tmp_path)
    assert [a.name for a in found] == [e.name for e in entries()]
    assert [a.name for a in found if a.local] == ["all-MiniLM-L6-v2"]
    missing = next(a for a in found if a.name == "bge-m3")
    assert missing.code == "offline_missing"
    assert "folder-mcp models pull bge-m3" in missing.remedy
    assert missing.entry is not None
    assert missing.entry.dim == 1024


def test_each_model_is_reported_by_its_own_trouble(tmp_path: Path) -> None:
    write_hub(tmp_path / "hub", "acme/tiny")
    damaged = write_bert(tmp_path / "damaged")
    (damaged / "model.safetensors").unlink()
    (damaged / "modules.json").write_text("{", encoding="utf-8")
    names = ["acme/tiny", str(damaged), "nosuchthing", str(tmp_path / "nowhere")]
    found = availability(names, hub_cache=tmp_path / "hub")
    assert [(a.local, a.code) for a in found] == [
        (True, ""), (False, "corrupt_files"), (False, "model_not_found"), (False, "model_not_found"),
    ]  # fmt: skip
    assert found[0].source == "hub"
    assert all(a.reason and a.remedy for a in found[1:])
