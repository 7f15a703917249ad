"""Files and directories swapped under a running program: ``python benchmarks/swap_race.py [--seconds 60]``.

Real clients over stdio read and search while a thread swaps, in an indexed folder and at any moment, a directory and a
file for links to others outside, a file for a hard link to one outside, for a FIFO and for a device that never ends
(where ``mknod`` is permitted), and the root of a second folder for a link. The swaps themselves make the watcher scan
and read again; ``folder-mcp index`` does so besides. Prints how many answers gave the text inside, refused, or gave
text from outside, and the longest wait for one. Fails when anything came from outside or an answer did not come.

A hard link is a file of the folder it is in (docs/formats.md): its text is counted apart, and is none from outside.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "support"), str(Path(__file__).parents[1])]

from relays import Client, Home

INSIDE, OUTSIDE, LINKED = "lantern inside", "quetzal outside", "heron linked"
"""What the files say; the first word of each is searched for."""
NAME_OUTSIDE = "only-outside"
"""A name that no file of the folders has."""
SWAPPED_S, BACK_S = 0.0005, 0.002
"""Seconds that the swapped thing and the real one stay."""
LIMIT_S = 30.0
"""An answer that takes longer is a hang."""
ZERO = (1, 5)
"""Device number of /dev/zero (Linux, admin-guide/devices.txt)."""


@dataclass
class Scene:
    """The folders, what is swapped in them, and the paths that are read."""

    base: Path
    swaps: list[Callable[[], contextlib.AbstractContextManager[None]]] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.base / "folder"

    @property
    def second(self) -> Path:
        return self.base / "second"

    @property
    def outside(self) -> Path:
        return self.base / "outside"


def write(directory: Path, text: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "a.md").write_text(f"# A\n\n{text}\n", encoding="utf-8")
    (directory / "m.eml").write_text(f"From: a@b.c\nSubject: letter\n\n{text}\n", encoding="utf-8")


@contextlib.contextmanager
def swapped(place: Path, put: Callable[[Path], None]) -> Iterator[None]:
    """Something else in a path's place, for a while."""
    kept = place.parent / f".kept-{place.name}"
    place.rename(kept)
    put(place)
    try:
        yield
    finally:
        place.unlink()
        kept.rename(place)


def scene(base: Path) -> Scene:
    """Make the folders and say what can be swapped here."""
    made = Scene(base)
    write(made.outside, OUTSIDE)
    (made.outside / f"{NAME_OUTSIDE}.md").write_text(f"# Other\n\n{OUTSIDE}\n", encoding="utf-8")
    write(made.base / "linked", LINKED)
    linked = made.base / "linked" / "a.md"

    def add(kind: str, place: Path, put: Callable[[Path], None], reads: list[Path]) -> None:
        for path in reads:
            write(path.parent, INSIDE)
        made.kinds.append(kind)
        made.paths.extend(reads)
        made.swaps.append(lambda: swapped(place, put))

    top = made.folder
    for name in ("directory", "deep"):
        place = top / name if name == "directory" else top / "deep" / "er"
        reads = [place / "a.md", place / "m.eml"]
        add(f"{name} -> link", place, lambda at: at.symlink_to(made.outside), reads)
    for name in ("a.md", "m.eml"):
        source, place = made.outside / name, top / f"file-{name}" / name
        add(f"{name} -> link", place, lambda at, source=source: at.symlink_to(source), [place])  # type: ignore[misc]
    add("a.md -> hard link", top / "hard" / "a.md", lambda at: os.link(linked, at), [top / "hard" / "a.md"])
    for name in ("a.md", "m.eml"):
        add(f"{name} -> FIFO", top / f"pipe-{name}" / name, os.mkfifo, [top / f"pipe-{name}" / name])
    with contextlib.suppress(PermissionError):
        os.mknod(made.base / "zero", stat.S_IFCHR | 0o600, os.makedev(*ZERO))
        device = os.makedev(*ZERO)
        add(
            "a.md -> device",
            top / "device" / "a.md",
            lambda at: os.mknod(at, stat.S_IFCHR | 0o600, device),
            [top / "device" / "a.md"],
        )
    add("root -> link", made.second, lambda at: at.symlink_to(made.outside), [made.second / "a.md"])
    return made


def swap_all(made: Scene, done: threading.Event, counts: Counter[str]) -> None:
    while not done.is_set():
        for kind, swap in zip(made.kinds, made.swaps, strict=True):
            with swap():
                time.sleep(SWAPPED_S)
            counts[kind] += 1
            time.sleep(BACK_S)


def judge(said: str) -> str:
    if OUTSIDE in said or NAME_OUTSIDE in said:
        return "OUTSIDE"
    return "hard link" if LINKED in said else "inside" if INSIDE in said else "refused"


@dataclass
class Told:
    """What the answers said: their number by tool and verdict, the longest wait, and hangs."""

    counts: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    hangs: int = 0

    def ask(self, client: Client, tool: str, **arguments: Any) -> str:
        began = time.monotonic()
        try:
            answer = client.answer(client.send("tools/call", name=tool, arguments=arguments), LIMIT_S)
        except AssertionError as error:
            self.hangs += 1
            sys.stderr.write(f"no answer to {tool} {arguments}: {error}\n")
            raise
        self.longest = max(self.longest, time.monotonic() - began)
        said = json.dumps(answer)
        verdict = judge(said)
        self.counts[f"{tool} {verdict}"] += 1
        if verdict == "OUTSIDE":
            sys.stderr.write(f"{tool} {arguments}: {said[:400]}\n")
        return said


def read_all(client: Client, made: Scene, done: threading.Event, told: Told) -> None:
    while not done.is_set():
        for path in made.paths:
            told.ask(client, "read", path=str(path))


def search_all(client: Client, done: threading.Event, told: Told) -> None:
    while not done.is_set():
        for query in ("lantern", "quetzal", "heron"):
            told.ask(client, "search", query=query, mode="keyword", context=1)
        told.ask(client, "status", verbose=True)


def index_again(home: Home, made: Scene, done: threading.Event, scans: Counter[str]) -> None:
    while not done.wait(2):
        for folder in (made.folder, made.second):
            try:
                home.command("index", str(folder), limit=LIMIT_S)
                scans["index commands"] += 1
            except subprocess.TimeoutExpired:  # it waits for a folder that changes all the time; not a tool's answer
                scans["index commands that went on for 30 s"] += 1


def is_indexed(client: Client) -> bool:
    folders = client.status()["folders"]
    return len(folders) == 2 and all(each["last_scan"] and not each["files"]["pending"] for each in folders)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def run(seconds: float) -> bool:
    """Race for some seconds; whether nothing came from outside and nothing hung."""
    with tempfile.TemporaryDirectory(prefix="fm-swap-") as base:
        made, home = scene(Path(base)), Home(Path(base) / "home")
        try:
            reader, searcher = (home.client(str(made.folder), str(made.second)).begin() for _ in range(2))
            while not is_indexed(searcher):
                time.sleep(0.2)
            before = descriptors(home.owner())
            done, swaps, scans = threading.Event(), Counter[str](), Counter[str]()
            reads, searches = Told(), Told()
            threads = [
                threading.Thread(target=swap_all, args=[made, done, swaps], daemon=True),
                threading.Thread(target=read_all, args=[reader, made, done, reads], daemon=True),
                threading.Thread(target=search_all, args=[searcher, done, searches], daemon=True),
                threading.Thread(target=index_again, args=[home, made, done, scans], daemon=True),
            ]
            for thread in threads:
                thread.start()
            time.sleep(seconds)
            done.set()
            for thread in threads:
                thread.join(2 * LIMIT_S + 10)
            waiting = sum(thread.is_alive() for thread in threads)
            last = searches.ask(searcher, "search", query="quetzal", mode="keyword")
            after = descriptors(home.owner())
        finally:
            home.close()
    counts = reads.counts + searches.counts
    hangs = reads.hangs + searches.hangs + waiting
    print(f"swaps: {', '.join(f'{kind} {count:,}' for kind, count in swaps.items())}")
    print(f"answers: {', '.join(f'{what} {count:,}' for what, count in sorted(counts.items()))}")
    print(f"scans asked for: {dict(scans)}; longest wait {max(reads.longest, searches.longest):.1f} s")
    print(f"descriptors of the owner: {before} before, {after} after")
    outside = sum(count for what, count in counts.items() if what.endswith("OUTSIDE"))
    print(f"from outside: {outside}; hangs: {hangs}")
    return not outside and not hangs and judge(last) != "OUTSIDE"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60.0)
    sys.exit(0 if run(options.parse_args().seconds) else 1)


if __name__ == "__main__":
    main()
