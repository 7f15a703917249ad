"""What the kernel refuses to a parser process, tried by native calls; and the filter's program, without a kernel."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from broken_files import FILES
from documents import docx, epub, odt, opendocument, pdf, pptx, xlsx
from hostile import HOSTILE, described, script

from indexer.documents.pool import open_parsers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux offers limits that bind native code")

if sys.platform == "linux":
    from native_calls import ATTEMPTS, OFTEN_REFUSED

    from indexer.documents import landlock, system_calls
    from indexer.documents.confinement import REFUSALS, STEPS, readable_paths

SCRIPT = Path(__file__).resolve().parents[2] / "support" / "native_calls.py"
NAMES = ("other.txt", "unlinked", "renamed", "truncated", "written")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder with files to attack and two sockets that listen."""
    for name in NAMES:
        (tmp_path / name).write_text("text of it\n", encoding="utf-8")
    (tmp_path / "given.txt").write_text("given text\n", encoding="utf-8")
    (tmp_path / "removed").mkdir()
    with (
        socket.socket(socket.AF_UNIX) as stream,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
    ):
        stream.bind(str(tmp_path / "stream"))
        abstract.bind("\0" + str(tmp_path / "abstract"))
        datagrams.bind(str(tmp_path / "datagrams"))
        stream.listen()
        abstract.listen()
        yield tmp_path


def tried(scratch: Path, left_out: tuple[str, ...]) -> dict[str, Any]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        victim = subprocess.Popen(["sleep", "600"], start_new_session=True)
        try:
            port = str(listening.getsockname()[1])
            command = [sys.executable, str(SCRIPT), ",".join(left_out), str(scratch), str(victim.pid), port]
            done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        finally:
            victim.kill()
            victim.wait()
    assert done.returncode == 0, done.stderr.decode()
    return dict(json.loads(done.stdout))


def needed(outcome: dict[str, Any], left_out: tuple[str, ...]) -> None:
    """Skip where this kernel lacks a step that the test does not leave out."""
    lacking = {name: why for name, why in outcome["unavailable"].items() if name not in left_out}
    if lacking:
        pytest.skip(f"this system does not offer {lacking}")


ALL = ("network", "changes", "reading", "calls")
LEFT_OUT = [
    (),
    ("network",),
    ("calls",),
    ("changes",),
    ("reading",),
    ("network", "calls"),
    ("changes", "reading"),
    ALL,
]


@pytest.mark.slow
@pytest.mark.parametrize("left_out", LEFT_OUT, ids=lambda names: "without " + (" and ".join(names) or "nothing"))
def test_each_native_call_is_refused_by_the_steps_that_are_in_force_and_by_those_alone(
    scratch: Path, left_out: tuple[str, ...]
) -> None:
    outcome = tried(scratch, left_out)
    in_force = set(outcome["refusing"])
    wrong = []
    for name, (refused_by, _) in ATTEMPTS.items():
        refused = bool(refused_by & in_force)
        if outcome["succeeded"][name] is refused and (refused or not refused_by & OFTEN_REFUSED):
            wrong.append(f"{name}: {'succeeded' if refused else 'failed'} under {sorted(in_force)}")
    assert wrong == []
    assert [name for name, works in outcome["works"].items() if not works] == []
    needed(outcome, left_out)


@pytest.mark.slow
def test_with_every_step_no_native_call_gets_anywhere_and_nothing_is_changed(scratch: Path) -> None:
    def entries() -> dict[str, tuple[int, ...]]:
        found = {each.name: each.lstat() for each in scratch.iterdir()}
        return {
            name: (s.st_mode, s.st_ino, s.st_nlink, s.st_uid, s.st_size, s.st_mtime_ns) for name, s in found.items()
        }

    before = entries()
    outcome = tried(scratch, ())
    needed(outcome, ())
    assert [name for name, succeeded in outcome["succeeded"].items() if succeeded] == []
    assert set(outcome["refused"]) == set(REFUSALS)
    assert entries() == before


@pytest.mark.slow
def test_what_a_process_says_is_refused_is_what_was_refused(scratch: Path) -> None:
    """``refusals`` tries few calls; the many of the attempts agree with it, whatever steps are in force."""
    same = {
        "network": ("connect by TCP", "connect by UDP"),
        "sockets": ("open a unix socket", "open a TCP socket"),
        "processes": ("fork",),
        "programs": ("start a program",),
        "writing": ("open for writing", "unlink", "truncate"),
        "attributes": ("chmod",),
        "signals": ("signal",),
        "reading": ("read another file", "list a directory"),
    }
    for left_out in ((), ("calls",), ALL):
        outcome = tried(scratch, left_out)
        for name, attempts in same.items():
            refused = not any(outcome["succeeded"][each] for each in attempts)
            assert (name in outcome["refused"]) is refused, (left_out, name)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_user_without_privileges_gets_the_same_limits(scratch: Path) -> None:
    code = (
        f"import os, sys; sys.path.insert(0, {str(SCRIPT.parents[2])!r})\n"
        "from indexer.documents.confinement import confine, refusals\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "taken = confine(0)\n"
        "print(*taken.steps, '|', *refusals(taken), '|', taken.unavailable)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    steps, refused, unavailable = done.stdout.split("|")
    if not {"changes", "reading", "calls"} <= set(steps.split()):
        pytest.skip(f"this system does not offer {unavailable}")
    assert set(refused.split()) == set(REFUSALS)


SOUND = {
    "a.docx": docx([(1, "Title"), (0, "words of it")]),
    "a.xlsx": xlsx({"Sheet": [["one", "two"]]}),
    "a.pptx": pptx([("Title", "words of it")]),
    "a.odt": odt([(1, "Title"), (0, "words of it")]),
    "a.odp": opendocument("presentation", "<draw:page><text:p>words of it</text:p></draw:page>"),
    "a.epub": epub([("Title", "words of it")]),
    "a.pdf": pdf(["words of it"]),
    "a.html": b"<h1>Title</h1><p>words of it",
    "a.rtf": rb"{\rtf1 words of it}",
    "a.eml": b"Subject: title\n\nwords of it\n",
    "a.ipynb": b'{"cells": [{"cell_type": "code", "source": "words of it", "outputs": []}]}',
    "a.txt": "größere Wörter für alle".encode("cp1252"),
    "b.txt": "会議の記録は三日以内に全員へ送る".encode("shift_jis"),
    "c.txt": "Договор может быть расторгнут".encode("koi8-r"),
    "a.py": b"def f():\n    return 1\n",
}
BROKEN = ("truncated.docx", "noise.pdf", "own_child.pdf", "encrypted.docx", "noise.doc", "deep.eml", "entities.docx")


@pytest.mark.slow
def test_every_format_gives_the_same_text_or_reason_with_every_limit_and_with_none(tmp_path: Path) -> None:
    files = SOUND | {name: FILES[name]() for name in BROKEN}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    script = SCRIPT.parents[2] / "benchmarks" / "confined.py"
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    refused = sum(1 for name in BROKEN if name != "entities.docx")
    assert done.stdout.startswith(f"{len(files)} files, {len(files)} the same ({refused} refused)")


def test_rights_that_a_kernel_does_not_know_are_left_out() -> None:
    assert landlock.handled(landlock.CHANGING, 1) == landlock.CHANGING & 0b1111111111111 & ~landlock.READING
    assert landlock.handled(landlock.CHANGING, 2) & landlock.REFER
    assert not landlock.handled(landlock.CHANGING, 2) & landlock.TRUNCATE
    assert landlock.handled(landlock.CHANGING, 8) == landlock.CHANGING & ~landlock.RESOLVE_UNIX
    assert landlock.handled(landlock.CHANGING, 9) == landlock.CHANGING
    assert landlock.handled(landlock.READING, 1) == landlock.READING


@pytest.mark.slow
def test_a_process_that_has_threads_already_does_not_claim_to_be_bound() -> None:
    code = (
        "import threading; from indexer.documents.confinement import confine\n"
        "rest = threading.Event(); other = threading.Thread(target=rest.wait); other.start()\n"
        "taken = confine(0); rest.set(); print(taken.steps, taken.unavailable)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=SCRIPT.parents[2], capture_output=True, text=True, timeout=60, check=True)
    if "no Landlock" in done.stdout:
        pytest.skip("this kernel offers no Landlock")
    assert "'changes'" not in done.stdout.partition("{")[0] and "other threads of this process" in done.stdout


def test_the_steps_are_taken_in_an_order_in_which_none_forbids_the_next() -> None:
    assert STEPS[-1] == "calls"


def test_nothing_of_a_checkout_beside_the_package_stays_readable() -> None:
    root = Path(__file__).resolve().parents[3]
    allowed = {os.path.realpath(path) for path in readable_paths()}
    assert str(root / "indexer") in allowed
    assert not allowed & {str(root), str(Path.home()), "/", "/home", "/root", "/tmp", "/usr", "/etc", "/proc"}


def test_a_directory_that_packages_were_installed_into_stays_readable_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, project = tmp_path / "target", tmp_path / "project"
    (target / "xberg").mkdir(parents=True)
    project.mkdir()
    monkeypatch.setattr(sys, "path", [str(project), *sys.path, str(target)])
    assert str(target) in set(readable_paths())
    assert str(project) not in set(readable_paths())


# The filter's program, run here -------------------------------------------------------------------------------------

X86, ARM = 0xC000003E, 0xC00000B7
ALLOWED, REFUSED, ABSENT, NO_TERMINAL = 0x7FFF0000, 0x50000 | 1, 0x50000 | 38, 0x50000 | 25


def verdict(machine: str, architecture: int, number: int, *arguments: int) -> int:
    """What the program answers for a call, as the kernel's interpreter of classic BPF would."""
    data = number.to_bytes(4, "little") + architecture.to_bytes(4, "little") + bytes(8)
    data += b"".join(each.to_bytes(8, "little") for each in (*arguments, *(0,) * (6 - len(arguments))))
    program, at, held = system_calls.instructions(machine, pid=4711), 0, 0
    for _ in range(len(program)):
        operation, yes, no, operand = program[at]
        at += 1
        if operation == 0x20:
            held = int.from_bytes(data[operand : operand + 4], "little")
        elif operation == 0x54:
            held &= operand
        elif operation == 0x06:
            return operand
        else:
            holds = {0x15: held == operand, 0x35: held >= operand, 0x45: bool(held & operand)}[operation]
            at += yes if holds else no
    raise AssertionError("the program does not end")


@pytest.mark.parametrize(("machine", "architecture", "column"), [("x86_64", X86, 0), ("aarch64", ARM, 1)])
def test_the_filter_of_each_processor_looks_at_arguments(machine: str, architecture: int, column: int) -> None:
    def answer(name: str, *arguments: int) -> int:
        return verdict(machine, architecture, system_calls._CHECKED[name][column], *arguments)

    thread = 0x3D0F00  # as the C library starts one
    assert answer("openat", 0, 0, os.O_RDONLY | os.O_CLOEXEC) == ALLOWED
    for flag in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, 0o20000000):
        assert answer("openat", 0, 0, flag) == REFUSED
    assert (answer("clone", thread), answer("clone", 17)) == (ALLOWED, REFUSED)
    assert answer("clone", thread | 0x40000000) == REFUSED
    assert (answer("kill", 4711, 6), answer("kill", 1, 0), answer("kill", 0, 9)) == (ALLOWED, REFUSED, REFUSED)
    assert (answer("tgkill", 4711, 4712, 6), answer("tgkill", 1, 1, 0)) == (ALLOWED, REFUSED)
    assert answer("socketpair", 1, 1 | 0o2004000) == ALLOWED
    assert {answer("socketpair", 1, kind) for kind in (2, 5)} == {REFUSED}
    assert answer("socketpair", 2, 1) == REFUSED
    assert (answer("sendto", 3, 0, 1), answer("sendto", 3, 0, 1, 0, 1 << 40)) == (ALLOWED, REFUSED)
    assert (answer("ioctl", 3, 0x5421), answer("ioctl", 0, 0x5412)) == (ALLOWED, NO_TERMINAL)
    assert (answer("fcntl", 3, 1030), answer("fcntl", 3, 8)) == (ALLOWED, REFUSED)
    assert (answer("prctl", 15), answer("prctl", 4)) == (ALLOWED, REFUSED)
    assert (answer("prlimit64", 0, 7, 0), answer("prlimit64", 1, 7, 0)) == (ALLOWED, REFUSED)
    assert answer("prlimit64", 0, 7, 1 << 40) == REFUSED


@pytest.mark.parametrize(("machine", "architecture", "column"), [("x86_64", X86, 0), ("aarch64", ARM, 1)])
def test_the_filter_of_each_processor_names_what_is_allowed(machine: str, architecture: int, column: int) -> None:
    listed = {numbers[column] for numbers in system_calls._ALLOWED.values()} - {-1}
    checked = {numbers[column] for numbers in system_calls._CHECKED.values()} - {-1}
    absent = {numbers[column] for numbers in system_calls._ABSENT.values()}
    assert not listed & checked and not listed & absent and not checked & absent
    for number in range(600):
        expected = ALLOWED if number in listed else ABSENT if number in absent or number > 449 else REFUSED
        if number not in checked:
            assert verdict(machine, architecture, number) == expected, number
    other = ARM if architecture == X86 else X86
    assert verdict(machine, other, 63) == verdict(machine, 0x40000003, 1) == REFUSED
    assert verdict(machine, architecture, 0x40000000 | 39) == REFUSED


@pytest.mark.parametrize("machine", ["riscv64", "i686", ""])
def test_a_processor_without_a_list_gets_no_filter_and_is_told(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    with pytest.raises(landlock.Unavailable, match="no list of system calls"):
        system_calls.allow_only_reading()


# A worker of the pool ----------------------------------------------------------------------------------------------

# The real worker, taken over by its document: what it can reach is the text that it answers with.
TAKEN_OVER = """
import ctypes, stat
from dataclasses import replace
from indexer.types import Unit
library = ctypes.CDLL(None, use_errno=True)
def taken_over(path, source, limits):
    parsed = real(path, source, limits)
    root = os.path.dirname(path).encode()
    regular = []
    for descriptor in range(64):
        try:
            found = os.fstat(descriptor)
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_size:
            regular.append(os.pread(descriptor, 9, 0).decode("utf-8", "replace"))
    tried = {
        "its own path": library.open(path.encode(), os.O_RDONLY),
        "a neighbour": library.open(root + b"/neighbour.txt", os.O_RDONLY),
        "the folder": library.open(root, os.O_RDONLY),
        "the checkout": library.open(CHECKOUT + b"/README.md", os.O_RDONLY),
        "the parent's descriptors": library.open(b"/proc/%d/fd/0" % os.getppid(), os.O_RDONLY),
        "the file again, to write": library.open(b"/proc/self/fd/%d" % source.fileno(), os.O_RDWR),
        "a socket": library.socket(1, 1, 0),
        "a child": library.fork(),
        "the parent": library.kill(os.getppid(), 0),
        "the file's length": library.ftruncate(source.fileno(), 0),
    }
    text = repr((sorted(regular), sorted(name for name, outcome in tried.items() if outcome >= 0)))
    return replace(parsed, document=replace(parsed.document, units=(Unit("lines", "", text),)))
worker.parse_here = taken_over
asked ="""


@pytest.mark.slow
async def test_a_worker_that_a_document_takes_over_holds_that_document_and_reaches_nothing_else(
    tmp_path: Path,
) -> None:
    checkout = os.fsencode(SCRIPT.parents[2])
    body = TAKEN_OVER.replace("CHECKOUT", repr(checkout))
    made = script(tmp_path / "taken-python", HOSTILE.replace("\nasked =", body, 1))
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "neighbour.txt").write_text("a secret", encoding="utf-8")
    with anyio.fail_after(60):
        async with open_parsers(interpreter=made) as parsers:
            for number in range(3):
                place = folder / f"{number}.eml"
                place.write_text(f"letter: {number}\nSubject: x\n\ny\n", encoding="utf-8")
                text = (await parsers.parse(described(place))).document.units[0].text
                if parsers.status().limits_missing:
                    pytest.skip(f"this system does not offer {parsers.status().limits_missing}")
                assert text == repr(([f"letter: {number}"], [])), "earlier files are closed"
            assert (parsers.status().restarts, parsers.status().workers) == (0, 1)
