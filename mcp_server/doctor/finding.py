"""What a check found: a verdict, a sentence, a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        name: What was looked at.
        verdict: ``warning``: it works, but not as well as it could; ``failure``: something does not work.
        detail: What was found, one sentence.
        remedy: What to do, one sentence; empty when nothing.
    """

    name: str
    verdict: Verdict
    detail: str
    remedy: str = ""


Check = Callable[[], Iterable[Finding]]
"""A check with its inputs filled in."""


def examine(checks: Sequence[tuple[str, Check]]) -> Iterable[Finding]:
    """Run checks one after the other and yield what they find.

    The third place that catches everything, beside a file's and a tool call's boundary: the doctor is for
    installations of which anything may be broken, and a check that dies must not take the others with it. What it
    died of becomes a failure of its own, so nothing is hidden.

    Args:
        checks: Names, used when a check dies, and the checks.
    """
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:
            kind = type(error).__name__
            yield Finding(name, "failure", f"could not be looked at: {kind}: {error}", _remedy(error))


def _remedy(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "install folder-mcp again, with all its dependencies"
    return "this is a bug in folder-mcp or a very broken machine; report it with the output of folder-mcp doctor -v"
