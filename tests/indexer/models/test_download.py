from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import write_hub

from indexer.errors import SlotUnavailable
from indexer.models import download as pulling
from indexer.models.catalogue import lookup
from indexer.models.download import files_to_download, pull
from indexer.models.locate import Located, pickled_files

FILES = {
    "README.md": 10, "config.json": 20, "tokenizer.json": 30, "modules.json": 5, "1_Pooling/config.json": 5,
    "model.safetensors": 1000, "pytorch_model.bin": 1000, "tf_model.h5": 1000, "onnx/model.onnx": 900,
    "onnx/model.onnx_data": 5000, "onnx/model_quantized.onnx": 250, "onnx/tokenizer.json": 30, "vocab.txt": 40,
    "openvino/openvino_model.bin": 900, "2_Dense/model.safetensors": 7,
}  # fmt: skip
SMALL = {"config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json", "vocab.txt", "README.md"}


class FakeHub:
    """A hub with one repository, whose model it writes into the cache as the real client lays it out."""

    def __init__(self, files: dict[str, int] | None = None) -> None:
        self.listing = dict(FILES) if files is None else files
        self.asked: list[tuple[str, list[str]]] = []

    def files(self, repo: str) -> dict[str, int]:
        return self.listing

    def fetch(self, repo: str, names: list[str], cache: Path, advance: Callable[[int], None]) -> None:
        self.asked.append((repo, names))
        for name in names:
            advance(self.listing[name])
        write_hub(cache, repo)


def test_one_form_of_the_weights_is_fetched_and_a_pickled_one_only_where_there_is_no_other() -> None:
    assert set(files_to_download(FILES, None, "auto")) == SMALL | {"model.safetensors", "2_Dense/model.safetensors"}
    assert set(files_to_download(FILES, None, "onnx")) == SMALL | {"onnx/model.onnx", "onnx/model.onnx_data"}
    without = {n: s for n, s in FILES.items() if not n.endswith(".safetensors")}
    assert set(files_to_download(without, None, "auto")) == SMALL | {"onnx/model.onnx", "onnx/model.onnx_data"}
    assert set(files_to_download(without, None, "torch")) == SMALL | {"pytorch_model.bin"}
    pickles = {"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "2_Dense/pytorch_model.bin"}
    old = dict.fromkeys((*pickles, "config.json", "rust_model.ot", "optimizer.bin", "onnx/pytorch_model.bin"), 9)
    assert set(files_to_download(old, None, "auto")) == {*pickles, "config.json"}
    assert files_to_download(old, None, "onnx") == []


def test_the_catalogue_says_which_form() -> None:
    entry = lookup("Xenova/multilingual-e5-small")
    assert set(files_to_download(FILES, entry, "auto")) == SMALL | {"onnx/model_quantized.onnx"}
    assert "model.safetensors" in files_to_download(FILES, entry, "torch")


def test_a_pull_fetches_counts_and_finds(tmp_path: Path) -> None:
    hub, seen = FakeHub(), []
    found = pull("acme/tiny", hub_cache=tmp_path, hub=hub, progress=lambda done, total: seen.append((done, total)))
    assert isinstance(found, Located)
    assert hub.asked == [("acme/tiny", sorted(files_to_download(FILES, None, "auto")))]
    total = 20 + 30 + 5 + 5 + 40 + 10 + 1000 + 7
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


def test_a_model_that_is_here_is_not_fetched_again(tmp_path: Path) -> None:
    write_hub(tmp_path, "acme/tiny")
    hub = FakeHub()
    assert pull("acme/tiny", hub_cache=tmp_path, hub=hub).source == "hub"
    assert pull("all-MiniLM-L6-v2", hub_cache=tmp_path, hub=hub).source == "embedded"
    assert hub.asked == []


def test_offline_mode_is_respected(tmp_path: Path) -> None:
    hub = FakeHub()
    with pytest.raises(SlotUnavailable, match="Offline mode is on") as caught:
        pull("acme/tiny", hub_cache=tmp_path, hub=hub, offline=True)
    assert caught.value.code == "offline_missing"
    assert hub.asked == []


def test_a_full_disk_is_seen_before_the_first_byte(tmp_path: Path) -> None:
    hub = FakeHub(FILES | {"model.safetensors": 1 << 60})
    with pytest.raises(SlotUnavailable, match="MiB free") as caught:
        pull("acme/tiny", hub_cache=tmp_path, hub=hub)
    assert caught.value.code == "disk_full"
    assert hub.asked == []


@pytest.mark.parametrize(("name", "code"), [("nosuchthing", "model_not_found"), ("/some/dir", "model_not_found")])
def test_a_name_that_is_none_is_refused_before_the_network(tmp_path: Path, name: str, code: str) -> None:
    class NoHub(FakeHub):
        def files(self, repo: str) -> dict[str, int]:
            raise AssertionError("the hub was asked")

    with pytest.raises(SlotUnavailable) as caught:
        pull(name, hub_cache=tmp_path, hub=NoHub())
    assert caught.value.code == code


def test_a_repository_without_any_form_of_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlotUnavailable, match="neither weights nor an ONNX form") as caught:
        pull("acme/old", hub_cache=tmp_path, hub=FakeHub({"tf_model.h5": 9, "config.json": 1}))
    assert caught.value.code == "incompatible"


def test_pickled_weights_are_fetched_once_and_where_they_are_is_told(tmp_path: Path) -> None:
    class Pickles(FakeHub):
        def fetch(self, repo: str, names: list[str], cache: Path, advance: Callable[[int], None]) -> None:
            super().fetch(repo, names, cache, advance)
            (snapshot,) = cache.glob("*/snapshots/*")
            (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")

    hub = Pickles({"pytorch_model.bin": 9, "config.json": 1, "tokenizer.json": 3})
    for runtime in ("auto", "auto", "torch"):
        found = pull("acme/old", hub_cache=tmp_path, hub=hub, runtime=runtime)  # type: ignore[arg-type]
        assert (found.source, pickled_files(Path(found.directory))) == ("hub", ("pytorch_model.bin",))
    assert [names for _, names in hub.asked] == [["config.json", "pytorch_model.bin", "tokenizer.json"]]


def test_the_clients_bars_draw_nothing_and_count_the_bytes_written(capfd: Any) -> None:
    seen: list[int] = []
    bar = pulling._counter(seen.append)
    written = bar(name="huggingface_hub.snapshot_download", total=0, desc="Reconstructing", unit="B")
    received = bar(name="huggingface_hub.snapshot_download.transfer", total=0, unit="B")
    with bar(total=3, desc="Fetching 3 files") as files:
        written.update(700)
        received.update(300)
        written.update(None)
        files.update()
    written.set_description("Reconstruction complete")
    written.refresh()
    assert seen == [700]
    assert capfd.readouterr() == ("", "")
