"""Whether the models that the configuration and the folders name are here and whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from indexer.errors import SlotUnavailable
from indexer.models.locate import Located, Missing
from indexer.status_types import ModelAvailability
from mcp_server.doctor.finding import Finding


def models(
    found: Iterable[ModelAvailability],
    users: dict[str, list[str]],
    locate: Callable[[str], Located | Missing],
    verify: Callable[[Path, tuple[tuple[str, str], ...]], None],
) -> Iterator[Finding]:
    """Look at each named model; weights whose SHA-256 is known are compared with it.

    Args:
        found: The models, as found on this machine.
        users: Folders by the model they use.
        locate: Finds a model's files.
        verify: Compares files with their SHA-256; raises ``SlotUnavailable`` when one differs.
    """
    for model in found:
        folders = users.get(model.name, [])
        name = f"model {model.name}"
        if not model.local:
            meaning = f" {_counted(folders)} searched by word only." if folders else ""
            yield Finding(name, "failure" if folders else "warning", model.reason + meaning, model.remedy)
            continue
        place = locate(model.name)
        checks = place.checks if isinstance(place, Located) else ()
        try:
            if isinstance(place, Located) and checks:
                verify(Path(place.directory), checks)
        except SlotUnavailable as damaged:
            yield Finding(name, "failure", str(damaged), damaged.hint)
            continue
        amount = f", {model.size / 1e6:.0f} MB" if model.size else ""
        proof = "SHA-256 verified" if checks else "files present"
        gain = f". {model.reason} {model.remedy}".rstrip() if model.reason else ""
        yield Finding(name, "ok", f"here{amount}, {proof}, runs on {model.runtime}{gain}")


def _counted(folders: list[str]) -> str:
    return f"{folders[0]} is" if len(folders) == 1 else f"{len(folders)} folders are"
