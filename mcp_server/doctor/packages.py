"""The interpreter and the installed packages against what the project asks for; from metadata, nothing is imported."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from mcp_server.doctor.finding import Finding

DISTRIBUTION = "folder-mcp"


class Wanted(NamedTuple):
    """What the project asks for.

    Attributes:
        python: Range of interpreters, for example ``>=3.11``.
        packages: Requirements, for example ``mcp>=2.3,<3``.
    """

    python: str
    packages: tuple[str, ...]


def wanted(project: Path) -> Wanted:
    """Read the ranges from the checkout's ``pyproject.toml`` if there is one, else from the installed metadata.

    Raises:
        metadata.PackageNotFoundError: There is neither.
        OSError: The file cannot be read.
        ValueError: It is no TOML.
        KeyError: It lacks the table.
    """
    if project.is_file():
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        return Wanted(table["requires-python"], tuple(table["dependencies"]))
    about = metadata.distribution(DISTRIBUTION)
    required = [each for each in about.requires or () if "extra ==" not in each]
    return Wanted(str(about.metadata["Requires-Python"] or ""), tuple(required))


def installed(name: str) -> str | None:
    """The installed version of a distribution, None without it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def interpreter(version: str, executable: str, asked: str) -> Iterator[Finding]:
    """Compare the running Python with the range asked for."""
    if fits(version, asked):
        yield Finding("python", "ok", f"Python {version} ({executable})")
    else:
        remedy = f"install folder-mcp with a Python {asked}"
        yield Finding("python", "failure", f"Python {version} ({executable}), {asked} is needed", remedy)


def packages(required: Sequence[str], version_of: Callable[[str], str | None]) -> Iterator[Finding]:
    """Compare each installed package with the range asked for; one line for all that fit."""
    good = 0
    for requirement in required:
        name, asked = split(requirement)
        found = version_of(name)
        if found is not None and fits(found, asked):
            good += 1
            continue
        state = "is not installed" if found is None else f"{found} is installed, {asked} is needed"
        yield Finding(f"package {name}", "failure", f"{name} {state}", f"run: pip install '{name}{asked}'")
    if good:
        yield Finding("packages", "ok", f"{good} of {len(required)} packages are as needed")


def split(requirement: str) -> tuple[str, str]:
    """Split ``name>=1,<2; marker`` into name and range, without extras and markers."""
    text = requirement.split(";", maxsplit=1)[0].replace("(", "").replace(")", "").strip()
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)
    name = found[0] if found else text
    return name, re.sub(r"\s+", "", re.sub(r"^\[[^\]]*\]", "", text[len(name) :].strip()))


def fits(version: str, asked: str) -> bool:
    """Whether a version lies in a range of ``>=``, ``>``, ``<=``, ``<``, ``==`` and ``!=`` joined by commas.

    Only the release numbers count (PEP 440): ``2.13.0+cpu`` is 2.13.0, and a release candidate is its release.
    """
    have = _numbers(version)
    return all(_meets(have, clause) for clause in asked.split(",") if clause)


def _meets(have: tuple[int, ...], clause: str) -> bool:
    found = re.fullmatch(r"\s*(>=|<=|==|!=|~=|>|<)\s*([^\s]+)\s*", clause)
    if found is None:
        return True  # not a clause we write
    sign, text = found.groups()
    limit = _numbers(text)
    width = max(len(have), len(limit))
    left, right = _padded(have, width), _padded(limit, width)
    if sign == "~=" or text.endswith(".*"):
        prefix = len(limit) - (sign == "~=")
        same = have[:prefix] == limit[:prefix]
        return not same if sign == "!=" else same and (sign != "~=" or left >= right)
    return {
        ">=": left >= right,
        "<=": left <= right,
        "==": left == right,
        "!=": left != right,
        ">": left > right,
        "<": left < right,
    }[sign]


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version.rsplit("!", maxsplit=1)[-1].strip())
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _padded(numbers: Iterable[int], width: int) -> tuple[int, ...]:
    filled = tuple(numbers)
    return filled + (0,) * (width - len(filled))
