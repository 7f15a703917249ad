"""The program's version, and how versions compare. Standard library only: processes that must start fast use it."""

from __future__ import annotations

import os

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""Directory from which our packages are imported: a checkout, or where the distribution is installed."""


def release() -> str:
    """Return this program's version: of the checkout, or of the installed distribution; "0" when neither says."""
    try:
        with open(os.path.join(ROOT, "pyproject.toml"), encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("version = "):
                    return line.split('"')[1]
    except (OSError, IndexError):
        pass
    for name in sorted(os.listdir(ROOT)):
        if name.startswith("folder_mcp-") and name.endswith(".dist-info"):
            return name.removeprefix("folder_mcp-").removesuffix(".dist-info")
    return "0"


def newer(one: str, other: str) -> bool:
    """Whether one version is newer than the other; False for a version that cannot be parsed."""
    ours, theirs = _numbers(one), _numbers(other)
    return bool(ours) and bool(theirs) and ours > theirs


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of ``1.2.3`` without a suffix; empty when there are none."""
    found: list[int] = []
    for part in version.split("+", maxsplit=1)[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits[:18]))  # a longer one is nonsense, and ``int`` refuses thousands of digits
        if digits != part:
            break
    while found and not found[-1]:
        found.pop()
    return tuple(found)
