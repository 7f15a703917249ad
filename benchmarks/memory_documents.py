"""Memory while documents are indexed: ``python benchmarks/memory_documents.py [--files 5000]``.

Makes small documents in ten formats, indexes them with a real engine (its model is a fake), and prints the memory of
the owner process and of its parser processes as it goes: both must stay flat after the first tenth.
"""

# ruff: noqa: PLW0108  # the makers are lazy and alike

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import psutil

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "support"), str(Path(__file__).parents[1])]

from documents import docx, epub, odt, pdf, pptx, xlsx
from fakes import FakeLoader
from live_folder import watched

from indexer.engine import open_engine


def document(number: int, text: str) -> tuple[str, bytes]:
    """Suffix and bytes of one document; ten formats in turn."""
    makers: tuple[tuple[str, Callable[[], bytes]], ...] = (
        ("docx", lambda: docx([(1, f"Title {number}"), (0, text)])),
        ("xlsx", lambda: xlsx({"One": [["number", "text"], [str(number), text]]})),
        ("pptx", lambda: pptx([(f"Slide {number}", text)])),
        ("odt", lambda: odt([(1, f"Title {number}"), (0, text)])),
        ("epub", lambda: epub([(f"Chapter {number}", text)])),
        ("pdf", lambda: pdf([text[:90], f"page two of {number}"])),
        ("html", lambda: f"<h1>{number}</h1><p>{text}</p>".encode()),
        ("eml", lambda: f"From: a@b.c\nSubject: {number}\n\n{text}\n".encode()),
        ("md", lambda: f"# {number}\n\n{text}\n".encode()),
        ("py", lambda: f"def function_{number}():\n    return {text!r}\n".encode()),
    )
    kind, make = makers[number % len(makers)]
    return kind, make()


def generate(folder: Path, count: int) -> None:
    """``count`` documents, a thousand a directory."""
    for number in range(count):
        text = f"Document {number} speaks of subject {number % 97}. " + f"Sentence {number} goes on. " * (number % 40)
        directory = folder / f"d{number // 1000}"
        directory.mkdir(exist_ok=True)
        kind, data = document(number, text)
        (directory / f"{number}.{kind}").write_bytes(data)


def rewrite(folder: Path) -> None:
    """Change the text of every plain file and the time of every other."""
    for path in folder.rglob("*.*"):
        if path.suffix in (".md", ".py", ".eml", ".html"):
            path.write_text(path.read_text(encoding="utf-8") + "\n# one more line\n", encoding="utf-8")
        else:
            os.utime(path)


def memory() -> tuple[int, int, int, int]:
    """Resident bytes of this process, its own without mapped files, of its parsers together, and how many they are."""
    parsers = []
    for child in psutil.Process().children():
        try:
            if any(part.startswith("indexer.") for part in child.cmdline()):
                parsers.append(child.memory_info().rss)
        except psutil.Error:
            continue
    mine = psutil.Process().memory_info()
    return mine.rss, mine.rss - mine.shared, sum(parsers), len(parsers)


async def measure(files: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "folder")
        folder.mkdir()
        generate(folder, files)
        began, marks = time.perf_counter(), []
        loader = FakeLoader()
        async with open_engine(watched(Path(place, "data"), watch=False), version="x", loader=loader) as engine:
            await engine.add_folder(str(folder))
            done = anyio.Event()

            async def note() -> None:
                print("| files read | s | owner MB | without files | parsers MB | count | replaced |\n|" + "---|" * 7)
                step = 0
                async for status in engine.watch(at_most_every=0.2):
                    read = status.work.files_read
                    for embedder in loader.alive:
                        embedder.batches.clear()  # the fake remembers every text it was given
                    if read >= step or done.is_set():
                        owner, own, pool, count = memory()
                        replaced = status.index.pool.restarts if status.index.pool else 0
                        marks.append((read, owner, pool, own))
                        took = time.perf_counter() - began
                        held = f"{owner / 1e6:.0f} | {own / 1e6:.0f} | {pool / 1e6:.0f}"
                        print(f"| {read} | {took:.0f} | {held} | {count} | {replaced} |", flush=True)
                        step = (read * 10 // files + 1) * files // 10
                    if done.is_set():
                        return

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(note)
                report = await engine.index()
                for _ in range(rounds - 1):
                    await anyio.to_thread.run_sync(rewrite, folder)
                    report = await engine.index()
                done.set()
        whole = files * rounds
        early = next(mark for mark in marks if mark[0] >= whole // 10)
        late = [mark for mark in marks if mark[0] >= whole // 2]
        print(f"{report.indexed} indexed, {report.skipped} skipped, {report.failed} failed in {report.seconds:.0f} s")
        print(
            f"after a tenth: owner {early[1] / 1e6:.0f} MB ({early[3] / 1e6:.0f} without mapped files), parsers "
            f"{early[2] / 1e6:.0f} MB; most in the second half: owner {max(m[1] for m in late) / 1e6:.0f} MB "
            f"({max(m[3] for m in late) / 1e6:.0f}), parsers {max(m[2] for m in late) / 1e6:.0f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=1, help="how often all are changed and read: a leak shows")
    chosen = parser.parse_args()
    anyio.run(measure, chosen.files, chosen.rounds)


if __name__ == "__main__":
    main()
