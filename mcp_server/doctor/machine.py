"""Checks of the machine: interpreter, packages, hardware, data directory, index.

Packages are compared by their metadata; none of them is imported.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from indexer.errors import StoreError
from indexer.files.mounts import mount_table, silent_parts, synchronised
from indexer.models.loader import Accelerator, detect_accelerator, torch_build
from indexer.store.private_directory import holds_other_files
from mcp_server.doctor.checks import CheckInputs, Finding
from mcp_server.processes.owner_lock import user_name

DISTRIBUTION = "folder-mcp"
PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
"""In a checkout; an installation has metadata instead."""


# Interpreter and packages -------------------------------------------------------------------------------------------


def check_python(inputs: CheckInputs) -> Iterator[Finding]:
    """Check the running interpreter."""
    return python_findings(platform.python_version(), sys.executable, read_requirements(PROJECT).python)


def check_packages(inputs: CheckInputs) -> Iterator[Finding]:
    """Check the installed packages."""
    return package_findings(read_requirements(PROJECT).packages, installed_version)


class Requirements(NamedTuple):
    """What the project requires.

    Attributes:
        python: Range of interpreters, for example ``>=3.11``.
        packages: Requirements, for example ``mcp>=2.3,<3``.
    """

    python: str
    packages: tuple[str, ...]


def read_requirements(project: Path) -> Requirements:
    """Read the ranges from the checkout's ``pyproject.toml`` if there is one, else from the installed metadata.

    Raises:
        metadata.PackageNotFoundError: There is neither.
        OSError: The file cannot be read.
        ValueError: It is no TOML.
        KeyError: It lacks the table.
    """
    if project.is_file():
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        return Requirements(table["requires-python"], tuple(table["dependencies"]))
    about = metadata.distribution(DISTRIBUTION)
    needed = [each for each in about.requires or () if "extra ==" not in each]
    return Requirements(str(about.metadata["Requires-Python"] or ""), tuple(needed))


def installed_version(name: str) -> str | None:
    """Return the installed version of a distribution, None when it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def python_findings(version: str, executable: str, allowed: str) -> Iterator[Finding]:
    """Compare the running Python with the required range."""
    if in_range(version, allowed):
        yield Finding("python", "ok", f"Python {version} ({executable})")
    else:
        remedy = f"install folder-mcp with a Python {allowed}"
        yield Finding("python", "failure", f"Python {version} ({executable}), {allowed} is needed", remedy)


def package_findings(requirements: Sequence[str], version_of: Callable[[str], str | None]) -> Iterator[Finding]:
    """Compare each installed package with its required range; one line for all that fit."""
    good = 0
    for requirement in requirements:
        name, allowed = split_requirement(requirement)
        found = version_of(name)
        if found is not None and in_range(found, allowed):
            good += 1
            continue
        state = "is not installed" if found is None else f"{found} is installed, {allowed} is needed"
        yield Finding(f"package {name}", "failure", f"{name} {state}", f"run: pip install '{name}{allowed}'")
    if good:
        yield Finding("packages", "ok", f"{good} of {len(requirements)} packages are as needed")


def split_requirement(requirement: str) -> tuple[str, str]:
    """Split ``name>=1,<2; marker`` into name and range, without extras and markers."""
    text = requirement.split(";", maxsplit=1)[0].replace("(", "").replace(")", "").strip()
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)
    name = found[0] if found else text
    return name, re.sub(r"\s+", "", re.sub(r"^\[[^\]]*\]", "", text[len(name) :].strip()))


def in_range(version: str, allowed: str) -> bool:
    """Return whether a version lies in a range of ``>=``, ``>``, ``<=``, ``<``, ``==`` and ``!=`` joined by commas.

    Only the release numbers count (PEP 440): ``2.13.0+cpu`` is 2.13.0, and a release candidate is its release.
    """
    have = _numbers(version)
    return all(_meets(have, clause) for clause in allowed.split(",") if clause)


def _meets(have: tuple[int, ...], clause: str) -> bool:
    found = re.fullmatch(r"\s*(>=|<=|==|!=|~=|>|<)\s*([^\s]+)\s*", clause)
    if found is None:
        return True  # not a clause that pyproject.toml uses
    operator, text = found.groups()
    limit = _numbers(text)
    width = max(len(have), len(limit))
    left, right = _padded(have, width), _padded(limit, width)
    if operator == "~=" or text.endswith(".*"):
        prefix = len(limit) - (operator == "~=")
        same = have[:prefix] == limit[:prefix]
        return not same if operator == "!=" else same and (operator != "~=" or left >= right)
    return {
        ">=": left >= right,
        "<=": left <= right,
        "==": left == right,
        "!=": left != right,
        ">": left > right,
        "<": left < right,
    }[operator]


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version.rsplit("!", maxsplit=1)[-1].strip())
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _padded(numbers: Iterable[int], width: int) -> tuple[int, ...]:
    filled = tuple(numbers)
    return filled + (0,) * (width - len(filled))


# Hardware -----------------------------------------------------------------------------------------------------------


def check_torch(inputs: CheckInputs) -> Iterator[Finding]:
    """Check whether the installed torch is built for this machine's accelerator."""
    return torch_findings(torch_build(), detect_accelerator(), nvidia_cards(), inputs.settings.config.model.device)


def check_memory(inputs: CheckInputs) -> Iterator[Finding]:
    """Report the accelerator, and check the memory that models run in."""
    return memory_findings(detect_accelerator(), *system_memory())


PCI = Path("/sys/bus/pci/devices")
SMALL = 1 << 30
"""Bytes of free memory under which loading a model may fail."""
_NVIDIA, _DISPLAY = "0x10de", "0x03"


def nvidia_cards(pci: Path = PCI) -> int:
    """Return how many NVIDIA display devices are on the bus, with or without a driver; 0 where that is unknown."""
    found = 0
    for device in pci.glob("*"):
        try:
            vendor = (device / "vendor").read_text(encoding="ascii").strip()
            kind = (device / "class").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        found += vendor == _NVIDIA and kind.startswith(_DISPLAY)
    return found


def torch_findings(build: str | None, found: Accelerator, cards: int, configured: str) -> Iterator[Finding]:
    """Compare the build of torch with the hardware.

    Args:
        build: CUDA version torch was built for, empty for a CPU build, None without torch.
        found: The accelerator that the driver reports, named also when torch cannot use it.
        cards: NVIDIA devices on the bus.
        configured: ``device`` of the configuration.
    """
    driver = bool(found.name) and found.device in ("cuda", "cpu")
    if build is None:
        yield Finding("torch", "failure", "torch is not installed", "run: pip install torch")
        return
    text = f"torch is built for CUDA {build}" if build else "torch is a CPU build"
    if configured in ("cuda", "mps") and found.device != configured:
        reason = found.why_not or f"this machine has {found.device}"
        remedy = 'set device = "auto" in [model], or make the accelerator usable'
        yield Finding("torch", "failure", f'device = "{configured}" is configured, but {reason}', remedy)
    elif driver and not build:
        remedy = "install a CUDA build of torch (pytorch.org says how), then restart folder-mcp"
        yield Finding("torch", "warning", f"{text}, and this machine has a {found.name}: it is not used", remedy)
    elif cards and not driver:
        remedy = "install the NVIDIA driver, then run folder-mcp doctor again"
        yield Finding("torch", "warning", f"{text}; there is an NVIDIA device, but no driver answers", remedy)
    elif build and found.device == "cpu":
        remedy = "nothing, if there is no NVIDIA device; a CPU build of torch is gigabytes smaller"
        yield Finding("torch", "warning", f"{text}, but no NVIDIA driver answers: models run on the CPU", remedy)
    else:
        yield Finding("torch", "ok", f"{text}, which fits: models run on {found.name or 'the CPU'}")


def memory_findings(found: Accelerator, total: int | None, available: int | None) -> Iterator[Finding]:
    """Report the accelerator and the memory that models run in.

    Args:
        found: The accelerator.
        total: Memory of this machine, bytes.
        available: Of that, free for programs.
    """
    if found.device != "cpu":
        amount = f"{found.total / 1e9:.1f} GB" if found.total else "memory not told"
        yield Finding("device", "ok", f"{found.name} ({found.device}), {amount}")
    else:
        yield Finding(
            "device", "ok", f"no accelerator in use ({found.why_not or 'none found'}): models run on the CPU"
        )
    if total is None or available is None:
        yield Finding("memory", "ok", "the system does not tell how much memory it has")
        return
    text = f"{available / 1e9:.1f} of {total / 1e9:.1f} GB are free"
    if available < SMALL:
        yield Finding("memory", "warning", text, "close other programs, or choose a smaller model")
    else:
        yield Finding("memory", "ok", text)


def system_memory() -> tuple[int | None, int | None]:
    """Return total and available memory of this machine in bytes; None where unknown.

    Raises:
        ImportError: psutil is missing, on systems without ``/proc``.
    """
    if sys.platform == "linux":
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        total, available = (facts.get(key) for key in ("MemTotal", "MemAvailable"))
        return _bytes(total), _bytes(available)
    import psutil  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415 - not on Linux

    found = psutil.virtual_memory()
    return int(found.total), int(found.available)


def _bytes(fact: str | None) -> int | None:
    """Return the bytes of a line such as ``16303428 kB``."""
    return int(fact.split()[0]) * 1024 if fact else None


# Storage ------------------------------------------------------------------------------------------------------------


def check_data_directory(inputs: CheckInputs) -> Iterator[Finding]:
    """Check the data directory and its disk."""
    return data_directory_findings(inputs.settings.config.data_dir, mounts_or_none())


def mounts_or_none() -> Sequence[tuple[str, str]] | None:
    """Return the mount table; None without psutil, which the check of the packages reports."""
    try:
        return mount_table()
    except (ImportError, OSError):
        return None


MARGIN = 1.2
"""Free space maintenance needs, as a multiple of the tables it rewrites."""
MIN_FREE = 256 << 20
"""Bytes that should be free whatever the size of the index."""
_MOVE = "choose a data directory on a local disk, with --data-dir or data_dir in the configuration"


def data_directory_findings(data_dir: Path, mounts: Sequence[tuple[str, str]] | None) -> Iterator[Finding]:
    """Check that the data directory can be written, is local, has free space, and supports hard links.

    It need not exist yet.

    Args:
        data_dir: Absolute.
        mounts: Mount points and their file system types, None when unknown.
    """
    existing = _nearest_existing(data_dir)
    yield _writable(data_dir, existing)
    if sys.platform != "win32":
        yield _private(data_dir, existing)
        parent = _parent_of_others(data_dir)
        if parent:
            detail = f"other users can write in {parent}, and put a directory of theirs in the place of {data_dir}"
            yield Finding("way to the data directory", "warning", detail, f"run: chmod go-w {parent}; or {_MOVE}")
    if mounts is not None:
        yield _local(data_dir, mounts)
    synced = synchronised(data_dir)
    if synced:
        detail = f"{data_dir} is in a synchronised folder ({synced}): copies made while it is written are damaged"
        yield Finding("data directory in sync", "warning", detail, _MOVE)
    yield _space(data_dir, existing)
    if existing == data_dir and os.access(data_dir, os.W_OK):
        yield _hard_links(data_dir)


def table_bytes(tables: Path) -> int:
    """Return the bytes of the largest table, which maintenance rewrites; 0 without one."""
    sizes = [_bytes_below(table) for table in tables.glob("*.lance")] if tables.is_dir() else []
    return max(sizes, default=0)


def _bytes_below(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:  # deleted meanwhile
                continue
    return total


def _nearest_existing(directory: Path) -> Path:
    """Return the directory itself, or the nearest parent that exists."""
    for each in (directory, *directory.parents):
        if os.path.lexists(each):
            return each
    return Path(os.sep)


def _writable(data_dir: Path, existing: Path) -> Finding:
    name = "data directory"
    if not existing.is_dir():
        return Finding(name, "failure", f"{existing} is not a directory", "move it away, or choose another --data-dir")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = f"{existing} cannot be written ({error.strerror})"
        return Finding(name, "failure", reason, "give this user write access to it, or choose another --data-dir")
    if existing != data_dir:
        return Finding(name, "ok", f"{data_dir} is not there yet; it can be made in {existing}")
    return Finding(name, "ok", f"{data_dir} can be written")


def _private(data_dir: Path, existing: Path) -> Finding:
    """Look who can enter the data directory; it is closed to others when the index is next opened for writing."""
    name = "data directory's access"
    if existing != data_dir:
        return Finding(name, "ok", "it will be made for this user alone (mode 0700)")
    found = data_dir.stat()
    mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
    if found.st_uid != os.geteuid():
        detail = f"{data_dir} belongs to {user_name(found.st_uid)} ({mode}), who can read your documents' text in it"
        return Finding(name, "failure", detail, "choose a directory of your own, with --data-dir")
    index = data_dir / "index"
    if found.st_mode & 0o077 and holds_other_files(data_dir) and index.is_dir() and not index.stat().st_mode & 0o077:
        detail = f"other users can enter {data_dir} ({mode}), which holds other files too, but not the index in it"
        return Finding(name, "ok", detail)
    if found.st_mode & 0o077:
        detail = f"other users of this machine can enter {data_dir} ({mode})"
        remedy = f"run: chmod 700 {data_dir}; it is done when the index is next opened for writing, too"
        return Finding(name, "warning", detail, remedy)
    return Finding(name, "ok", f"only this user can enter it ({mode})")


def _parent_of_others(data_dir: Path) -> str:
    """Return the first directory on the way in which others can replace what leads to the data directory; or nothing.

    Both ways count: the one that was named, and the one without links.
    """
    ways = dict.fromkeys([*data_dir.parents, *Path(os.path.realpath(data_dir)).parents])
    for each in ways:
        try:
            found = each.stat()
        except OSError:
            continue
        if found.st_mode & stat.S_ISVTX:  # as in /tmp: only the owner of an entry can replace it
            continue
        own_group = found.st_gid == os.getgid() == os.getuid()  # a group of this user alone, as many systems have it
        others = stat.S_IWOTH | (0 if own_group else stat.S_IWGRP)
        if found.st_mode & others or found.st_uid not in (0, os.geteuid()):
            return str(each)
    return ""


def _local(data_dir: Path, mounts: Sequence[tuple[str, str]]) -> Finding:
    parts = silent_parts(os.path.realpath(data_dir), mounts)
    if parts:
        where, kind = parts[0]
        detail = f"{where} is on a {kind} file system: locks and speed of a local disk are missing"
        return Finding("data directory's disk", "warning", detail, _MOVE)
    return Finding("data directory's disk", "ok", "on a local file system")


def _space(data_dir: Path, existing: Path) -> Finding:
    needed = int(MARGIN * table_bytes(data_dir / "index" / "tables"))
    free = shutil.disk_usage(existing if existing.is_dir() else existing.parent).free
    text = f"{free / 1e9:.1f} GB are free"
    if free < needed:
        detail = f"{text}; maintenance needs {MARGIN:g} times the largest table, {needed / 1e9:.1f} GB"
        return Finding("disk space", "failure", detail, "free space on that disk, or move the data directory")
    if free < MIN_FREE:
        return Finding("disk space", "warning", text, "free space on that disk")
    return Finding("disk space", "ok", text)


def _hard_links(data_dir: Path) -> Finding:
    """Make a hard link and delete it again: every commit of the index makes one."""
    name = "hard links"
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=data_dir) as directory:
            probe = Path(directory) / "probe"
            probe.write_bytes(b"")
            os.link(probe, Path(directory) / "link")
    except (OSError, NotImplementedError) as error:
        return Finding(name, "failure", f"{data_dir} takes no hard links ({error})", _MOVE)
    return Finding(name, "ok", "the data directory takes them")


# Index --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IndexContents:
    """What an index holds.

    Attributes:
        files: Files it knows.
        chunks: Chunks of text.
        failed: Files that could not be read.
        disk_bytes: Its size, None when unknown.
        languages: Chunks by folder and language.
    """

    files: int
    chunks: int
    failed: int
    disk_bytes: int | None
    languages: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def check_index(inputs: CheckInputs) -> Iterator[Finding]:
    """Check whether the index opens beside the process that writes it, and what it holds."""
    return index_findings(inputs.settings.config.data_dir, read_index)


def index_findings(data_dir: Path, read: Callable[[Path], IndexContents]) -> Iterator[Finding]:
    """Open the index read-only, which changes nothing in it.

    Args:
        data_dir: The data directory.
        read: Opens and reads the index; raises ``StoreError`` or ``ImportError``.
    """
    name, directory = "index", data_dir / "index"
    try:
        if not (directory / "tables").is_dir():
            yield Finding(name, "ok", "there is none yet; it is made with the first folder")
            return
        found = read(directory)
    except ImportError as error:
        yield Finding(name, "failure", f"the storage library cannot be loaded: {error}", "run: pip install lancedb")
        return
    except StoreError as error:
        yield Finding(name, "failure", str(error), _REMEDIES.get(error.code, "see the log in the data directory"))
        return
    except OSError as error:
        yield Finding(name, "failure", f"{directory} cannot be read ({error.strerror})", _REMEDIES["permission"])
        return
    amount = f", {found.disk_bytes / 1e6:.0f} MB" if found.disk_bytes else ""
    yield Finding(name, "ok", f"opens; {found.files:,} files, {found.chunks:,} chunks{amount}")
    damaged = (
        sorted(each.name for each in (directory / "damaged").glob("*")) if (directory / "damaged").is_dir() else []
    )
    if damaged:
        detail = f"damaged parts were set aside: {', '.join(damaged[:3])} in {directory / 'damaged'}"
        yield Finding("index damage", "warning", detail, "look at the disk's health; delete that directory when done")
    if found.failed:
        detail = f"{found.failed:,} files could not be read"
        yield Finding("files", "warning", detail, "run: folder-mcp status -v, which names them and the reasons")


_REMEDIES = {
    "damaged": "start a client or run folder-mcp index: it sets damaged parts aside and rebuilds them",
    "newer_version": "upgrade folder-mcp, or use another --data-dir",
    "permission": "give this user read and write access to the data directory",
    "disk_full": "free space on the disk of the data directory",
    "unsupported": "choose a data directory on a local disk, with --data-dir",
}


def read_index(directory: Path) -> IndexContents:
    """Read what an index holds; imports the storage library, which takes a second.

    Raises:
        StoreError: It cannot be opened or read.
        ImportError: The storage library is not installed.
    """
    return asyncio.run(_read_index(directory))  # anyio may be missing


async def _read_index(directory: Path) -> IndexContents:
    from indexer.store.resources import prepare_process  # noqa: PLC0415 - anyio may be missing

    prepare_process()
    from indexer.store.store import open_store  # noqa: PLC0415 - imports the storage library, which may be missing

    languages: dict[str, Counter[str]] = {}
    async with open_store(directory, read_only=True) as store:
        rows = await store.files()
        for row in rows:
            if row.language is not None:
                languages.setdefault(row.folder, Counter())[row.language] += row.chunks
        return IndexContents(
            files=len(rows),
            chunks=sum(store.chunk_count(folder) for folder in {row.folder for row in rows}),
            failed=sum(row.outcome == "failed" for row in rows),
            disk_bytes=store.disk_bytes,
            languages=languages,
        )
