"""The interpreter and the installed packages against what the project asks for; from metadata, nothing is imported."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from indexer.files.mounts import silent_parts, synchronised
from indexer.models.loader import Accelerator
from mcp_server.doctor.finding import Finding
from mcp_server.processes import timing

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


# Hardware -----------------------------------------------------------------------------------------------------------
# The accelerator and memory of this machine, and whether the installed torch is built for them.

PCI = Path("/sys/bus/pci/devices")
SMALL = 1 << 30
"""Bytes of free memory under which loading a model may fail."""
_NVIDIA, _DISPLAY = "0x10de", "0x03"


def nvidia_cards(pci: Path = PCI) -> int:
    """NVIDIA display devices on the system's bus, whether or not a driver answers; 0 where it tells nothing."""
    found = 0
    for device in pci.glob("*"):
        try:
            vendor = (device / "vendor").read_text(encoding="ascii").strip()
            kind = (device / "class").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        found += vendor == _NVIDIA and kind.startswith(_DISPLAY)
    return found


def torch(build: str | None, found: Accelerator, cards: int, configured: str) -> Iterator[Finding]:
    """Compare the build of torch with the hardware.

    Args:
        build: CUDA version torch was built for, empty for a CPU build, None without torch.
        found: The accelerator as the driver tells it, named also when torch cannot use it.
        cards: NVIDIA devices on the bus.
        configured: ``device`` of the configuration.
    """
    driver = bool(found.name) and found.device in ("cuda", "cpu")
    if build is None:
        yield Finding("torch", "failure", "torch is not installed", "run: pip install torch")
        return
    what = f"torch is built for CUDA {build}" if build else "torch is a CPU build"
    if configured in ("cuda", "mps") and found.device != configured:
        reason = found.why_not or f"this machine has {found.device}"
        remedy = 'set device = "auto" in [model], or make the accelerator usable'
        yield Finding("torch", "failure", f'device = "{configured}" is configured, but {reason}', remedy)
    elif driver and not build:
        remedy = "install a CUDA build of torch (pytorch.org says how), then restart folder-mcp"
        yield Finding("torch", "warning", f"{what}, and this machine has a {found.name}: it is not used", remedy)
    elif cards and not driver:
        remedy = "install the NVIDIA driver, then run folder-mcp doctor again"
        yield Finding("torch", "warning", f"{what}; there is an NVIDIA device, but no driver answers", remedy)
    elif build and found.device == "cpu":
        remedy = "nothing, if there is no NVIDIA device; a CPU build of torch is gigabytes smaller"
        yield Finding("torch", "warning", f"{what}, but no NVIDIA driver answers: models run on the CPU", remedy)
    else:
        yield Finding("torch", "ok", f"{what}, which fits: models run on {found.name or 'the CPU'}")


def memory(found: Accelerator, total: int | None, available: int | None) -> Iterator[Finding]:
    """Tell the memory models run in.

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
    """Total and available memory of this machine, bytes; None where it does not tell.

    Raises:
        ImportError: psutil is missing, on systems without ``/proc``.
    """
    if sys.platform == "linux":
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        total, available = (facts.get(key) for key in ("MemTotal", "MemAvailable"))
        return _bytes(total), _bytes(available)
    import psutil  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415

    found = psutil.virtual_memory()
    return int(found.total), int(found.available)


def _bytes(fact: str | None) -> int | None:
    """The bytes of a line such as ``16303428 kB``."""
    return int(fact.split()[0]) * 1024 if fact else None


# Storage ------------------------------------------------------------------------------------------------------------
# The data directory: can it be written, is it local, is there room, does it take hard links.

MARGIN = 1.2
"""Free space maintenance needs, as a multiple of the tables it rewrites."""
LEAST = 256 << 20
"""Bytes that should be free whatever the size of the index."""
_MOVE = "choose a data directory on a local disk, with --data-dir or data_dir in the configuration"


def data_directory(data_dir: Path, mounts: Sequence[tuple[str, str]] | None) -> Iterator[Finding]:
    """Look at the data directory; it need not exist yet.

    Args:
        data_dir: Absolute.
        mounts: Mount points and their file system types, None when they cannot be told.
    """
    there = _existing(data_dir)
    exists = there == data_dir
    yield _writable(data_dir, there)
    if mounts is not None:
        yield _local(data_dir, mounts)
    synced = synchronised(data_dir)
    if synced:
        detail = f"{data_dir} is in a synchronised folder ({synced}): copies made while it is written are damaged"
        yield Finding("data directory in sync", "warning", detail, _MOVE)
    yield _space(data_dir, there)
    if exists and os.access(data_dir, os.W_OK):
        yield _hard_links(data_dir)


def table_bytes(tables: Path) -> int:
    """Bytes of the largest table below the database directory, which maintenance rewrites; 0 without one."""
    sizes = [_bytes_below(table) for table in tables.glob("*.lance")] if tables.is_dir() else []
    return max(sizes, default=0)


def _bytes_below(place: Path) -> int:
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:  # gone meanwhile
                continue
    return total


def _existing(place: Path) -> Path:
    """The directory itself, or the nearest above it that exists."""
    for each in (place, *place.parents):
        if os.path.lexists(each):
            return each
    return Path(os.sep)


def _writable(data_dir: Path, there: Path) -> Finding:
    name = "data directory"
    if not there.is_dir():
        return Finding(name, "failure", f"{there} is not a directory", "move it away, or choose another --data-dir")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = f"{there} cannot be written ({error.strerror})"
        return Finding(name, "failure", reason, "give this user write access to it, or choose another --data-dir")
    if there != data_dir:
        return Finding(name, "ok", f"{data_dir} is not there yet; it can be made in {there}")
    return Finding(name, "ok", f"{data_dir} can be written")


def _local(data_dir: Path, mounts: Sequence[tuple[str, str]]) -> Finding:
    parts = silent_parts(os.path.realpath(data_dir), mounts)
    if parts:
        where, kind = parts[0]
        detail = f"{where} is on a {kind} file system: locks and speed of a local disk are missing"
        return Finding("data directory's disk", "warning", detail, _MOVE)
    return Finding("data directory's disk", "ok", "on a local file system")


def _space(data_dir: Path, there: Path) -> Finding:
    needed = int(MARGIN * table_bytes(data_dir / "index" / "tables"))
    free = shutil.disk_usage(there if there.is_dir() else there.parent).free
    text = f"{free / 1e9:.1f} GB are free"
    if free < needed:
        detail = f"{text}; maintenance needs {MARGIN:g} times the largest table, {needed / 1e9:.1f} GB"
        return Finding("disk space", "failure", detail, "free space on that disk, or move the data directory")
    if free < LEAST:
        return Finding("disk space", "warning", text, "free space on that disk")
    return Finding("disk space", "ok", text)


def _hard_links(data_dir: Path) -> Finding:
    """Make a hard link and take it away again: every commit of the index is one."""
    name = "hard links"
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=data_dir) as place:
            probe = Path(place) / "probe"
            probe.write_bytes(b"")
            os.link(probe, Path(place) / "link")
    except (OSError, NotImplementedError) as error:
        return Finding(name, "failure", f"{data_dir} takes no hard links ({error})", _MOVE)
    return Finding(name, "ok", "the data directory takes them")


# Watching -----------------------------------------------------------------------------------------------------------
# Whether the system allows as many file watches as the folders have directories (Linux).

INOTIFY = Path("/proc/sys/fs/inotify")
FEW_INSTANCES = 16


def limits(place: Path = INOTIFY) -> tuple[int, int] | None:
    """``max_user_watches`` and ``max_user_instances``; None where there are none."""
    try:
        watches = int((place / "max_user_watches").read_text(encoding="ascii"))
        return watches, int((place / "max_user_instances").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def directories(roots: Sequence[str], enough: int, clock: Callable[[], float] = time.monotonic) -> tuple[int, bool]:
    """Count directories below the roots, links not followed; stops at ``enough`` or when patience ends.

    Returns:
        How many, and whether all were counted.
    """
    until, count = clock() + timing.CHECK_DIRECTORIES_S, 0
    for root in roots:
        for _, _, _ in os.walk(root):
            count += 1
            if count >= enough or clock() > until:
                return count, False
    return count, True


def watches(
    found: tuple[int, int] | None,
    roots: Sequence[str],
    *,
    watch: bool,
    count: Callable[[Sequence[str], int], tuple[int, bool]] = directories,
) -> Iterator[Finding]:
    """Compare the limits with the folders.

    Args:
        found: Watches and instances the system allows one user, None where it has no such limits.
        roots: The folders.
        watch: Whether folders are watched at all.
        count: Counts directories up to a number.
    """
    name = "file watches"
    if not watch:
        yield Finding(name, "ok", "folders are not watched (watch = false in [index])")
        return
    if found is None:
        limit = "the limits cannot be read" if sys.platform == "linux" else "this system has no limit of its own"
        yield Finding(name, "ok", limit)
        return
    allowed, instances = found
    counted, whole = count(roots, allowed)
    number = f"{counted:,}" if whole else f"at least {counted:,}"
    detail = f"{number} directories to watch, {allowed:,} watches allowed"
    if counted >= allowed:
        remedy = f"run: sudo sysctl fs.inotify.max_user_watches={max(2 * counted, 524_288)}"
        yield Finding(name, "failure", f"{detail}: the rest is compared at each rescan only", remedy)
    elif counted > allowed // 2:
        remedy = "other programs share the limit; raise fs.inotify.max_user_watches with sysctl"
        yield Finding(name, "warning", detail, remedy)
    else:
        yield Finding(name, "ok", detail)
    if instances < max(FEW_INSTANCES, 2 * len(roots)):
        remedy = "run: sudo sysctl fs.inotify.max_user_instances=512"
        yield Finding("file watchers", "warning", f"{instances} allowed, one is needed for each folder", remedy)
