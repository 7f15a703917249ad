"""Advice on a folder's model: whether it reads the languages the folder is written in, and what would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from indexer.models.catalogue import Entry, entries

SHARE = 0.2
"""Share of a folder's text in languages its model does not read, above which another model is worth its cost."""
LEAST = 20
"""Chunks below which a folder says too little about its languages."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What should be changed about a folder's model.

    Attributes:
        fault: What does not fit.
        remedy: The better model, what it costs, and how to change to it; empty when there is none.
    """

    fault: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.fault}. {self.remedy}".strip()


def advise(
    folder: str, model: str, reads: frozenset[str] | None, chunks: Mapping[str, int], rate: float
) -> Advice | None:
    """Return what should be changed about a folder's model; None when it fits, or nobody can tell.

    Args:
        folder: The folder's root, for the command to run.
        model: Its model's name.
        reads: ISO 639-1 codes of the languages the model was made for; None when many or unknown: nothing to say.
        chunks: Chunks by language; the empty code is text that shows none (code, tables), read by any model.
        rate: Chunks embedded a second now, 0.0 when nothing has been measured.
    """
    total = sum(chunks.values())
    foreign = {code: count for code, count in chunks.items() if code and reads is not None and code not in reads}
    missed = sum(foreign.values())
    if total < LEAST or missed <= SHARE * total:
        return None
    named = ", ".join(sorted(foreign, key=lambda code: (-foreign[code], code))[:3])
    fault = f"{missed / total:.0%} of the text ({named}) can be found by word only: {model} was not made for it"
    better = better_model(frozenset(foreign) | (reads or frozenset()))
    if better is None:
        return Advice(fault, "")
    minutes = (
        f"about {max(1, round(total / rate / 60)):,} min at the present rate" if rate > 0 else "time not known yet"
    )
    return Advice(
        fault,
        f"{better.name} reads it: {better.disk_bytes / 1e6:,.0f} MB, {total:,} chunks to embed anew, {minutes}. "
        f'Run: folder-mcp models pull {better.name}, then: folder-mcp folders add "{folder}" --model {better.name}',
    )


def better_model(languages: frozenset[str]) -> Entry | None:
    """The smallest model of the catalogue that reads all these languages and needs neither account nor own code."""
    fitting = [
        entry
        for entry in entries()
        if entry.kind == "embedder"
        and not entry.gated
        and not entry.remote_code
        and (not entry.language_codes or languages <= frozenset(entry.language_codes))
    ]
    return min(fitting, key=lambda entry: (entry.disk_bytes, entry.name), default=None)
