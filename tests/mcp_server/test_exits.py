"""No secret of a document leaves by any exit, and what one exit refuses, all refuse."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest
from documents import docx, pptx, xlsx
from engines import engine_over, settings
from exits import bytes_below, reading, texts_of_commands, texts_that_leave
from made_up_secrets import key_block, made_up, pick

from indexer.types import Query
from mcp_server import logs

CHANCE = random.Random(14)


def token() -> str:
    return "gh" + "p_" + pick(CHANCE, "abcdefghijklmnopqrstuvwxyzABCDEFGH0123456789", 36)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def log_of(tmp_path: Path) -> Iterator[Path]:
    """Where this process logs to for the length of a test."""
    root = logging.getLogger()
    before, level, raised = list(root.handlers), root.level, logging.raiseExceptions
    root.handlers[:] = []
    logs.configure(tmp_path / "data" / "logs", verbose=True)
    yield tmp_path / "data" / "logs"
    for one in root.handlers:
        one.close()
    root.handlers[:], logging.raiseExceptions = before, raised
    root.setLevel(level)
    logging.captureWarnings(False)


class Planted:
    """A folder with a secret in every place where one can stand; ``secrets`` by the name of the place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets: dict[str, str] = {}
        folder.mkdir()
        self._texts()
        self._documents()
        for number, made in enumerate(made_up(1)):
            self._write(
                f"kind-{number}.md", f"The ibis {number} needs it.\n\n{made.text}\n\nand the stork.\n", made.secret
            )
        block, line = key_block(CHANCE, "PGP PRIVATE" + " KEY BLOCK", 400)
        self._write("long-key.txt", f"before\n{block}\nThe wombat has the other half.\n", line)
        self.secrets["long-key, last line"] = block.split("\n")[-2]

    def _write(self, name: str, text: str | bytes, secret: str) -> None:
        self.secrets[name] = secret
        data = text.encode() if isinstance(text, str) else text
        (self.folder / name).write_bytes(data)

    def _texts(self) -> None:
        one = token()
        filler = " ".join(f"word{n} about the narwhal" for n in range(140))
        for shift in range(0, 60, 7):  # one of these stands across two chunks
            cut = token()
            self._write(f"across-{shift}.md", filler[: 3000 + shift] + f" {cut} " + filler, cut)
        self._write("heading.md", f"# Vault\n\n## The key {one}\n\nThe narwhal keeps it.\n", one)
        one = token()
        self._write("title.md", f"# {one}\n\nThe narwhal keeps it.\n", one)
        one = token()
        self._write("table.csv", f"who,token\nnarwhal,{one}\n", one)
        one = token()
        self._write(
            "code.py", f'"""Narwhal."""\n\nTOKEN = "{one}"\n\n\ndef {one[:4]}narwhal():\n    return TOKEN\n', one
        )
        one = token()
        self._write(f"named-{one}.md", "The narwhal is in the name.\n", one)
        one = token()
        (self.folder / f"dir-{one}").mkdir()
        self._write(f"dir-{one}/broken.docx", b"PK\x03\x04 no archive", one)
        for name in (".env", "id_rsa", "passwords.csv", "wallet.dat", "server.pem"):
            self._write(name, f"narwhal hidden-{name.strip('.')}-0815\n", f"hidden-{name.strip('.')}-0815")

    def _documents(self) -> None:
        one = (
            "AK" + "IA" + pick(CHANCE, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)
        )  # a sheet's name has 31 letters at most
        self._write("sheet.xlsx", xlsx({one: [["narwhal", "x"]], "Two": [["key", one]]}), one)
        one = token()
        self._write("report.docx", docx([(1, f"Narwhal {one}"), (0, "Text below it.")]), one)
        one = token()
        self._write("slides.pptx", pptx([(f"Narwhal {one}", "text"), ("Other", one)]), one)
        one = token()
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = f"Narwhal <{one}@example.org>", "b@example.org", f"the key {one}"
        mail.set_content(f"Narwhal: {one}\n")
        self._write("mail.eml", mail.as_bytes(), one)
        one = token()
        output = {"output_type": "stream", "name": "stdout", "text": [f"narwhal {one}\n"]}
        cell = {"cell_type": "code", "source": ["print('narwhal')"], "metadata": {}, "outputs": [output]}
        book = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        self._write("book.ipynb", json.dumps(book).encode(), one)

    def leaked(self, texts: dict[str, str]) -> list[tuple[str, str]]:
        """(exit, place) of every secret that left; a part of 20 characters counts too."""
        return [
            (name, place)
            for name, text in texts.items()
            for place, secret in self.secrets.items()
            if secret in text
            or any(secret[n : n + 20] in text for n in range(0, max(1, len(secret) - 19), 8) if len(secret) > 24)
        ]

    @property
    def paths(self) -> list[str]:
        return [str(path) for path in sorted(self.folder.rglob("*")) if path.is_file()]


WORDS = ("narwhal", "wombat ibis")


@pytest.mark.slow
async def test_no_secret_leaves_by_any_exit(tmp_path: Path, log_of: Path) -> None:
    planted = Planted(tmp_path / "folder")
    late = token()
    async with engine_over(tmp_path / "data", planted.folder) as engine:
        await engine.index()
        texts = await texts_that_leave(engine, WORDS, planted.paths)
        # A text file that changes, and one that was clean: shown before they are read again.
        for name in ("heading.md", "kind-0.md"):
            path = planted.folder / name
            path.write_text(path.read_text("utf-8") + f"\nThe narwhal has a new one: {late}\n", encoding="utf-8")
        planted.secrets["added later"] = late
        texts |= {
            f"changed: {k}": v for k, v in (await texts_that_leave(engine, ("narwhal",), planted.paths[:6])).items()
        }
        logging.getLogger("test").warning("cannot be read: %s", planted.paths)
        try:
            raise ValueError(f"unexpected {late} in the file")
        except ValueError:
            logging.getLogger("test").exception("a parser failed")
    texts |= {f"file {k}": v.decode("latin-1") for k, v in bytes_below(tmp_path / "data").items()}
    assert planted.leaked(texts) == []
    assert len([name for name in texts if name.startswith("file logs/")]) >= 1
    # What stands beside a secret is found, and the answers say what was done.
    assert "The wombat has the other half." in texts["search"]
    assert "[secret: GitHub token]" in texts["search"] and "secrets are blanked here" in texts["search"]
    assert '"secrets_blanked":1' in texts["tool read"]
    assert "1 secret blanked (GitHub token)" in texts["status"]
    assert "its name holds a secret (GitHub token)" in texts["status"]


@pytest.mark.slow
async def test_no_secret_leaves_by_the_command_line(tmp_path: Path) -> None:
    planted = Planted(tmp_path / "folder")
    async with engine_over(tmp_path / "data", planted.folder) as engine:
        await engine.index()
    commands = [
        ["search", "narwhal", "--mode", "keyword", "--context", "3"],
        ["read", str(planted.folder / "heading.md"), "--json"],
        ["read", next(path for path in planted.paths if "named-" in path)],
        ["status", "-v", "--json"],
    ]
    texts = await texts_of_commands(tmp_path / "data", commands)
    assert planted.leaked(texts) == []
    assert all("narwhal" in texts[name] for name in ("0 search", "1 read"))
    assert "[secret: GitHub token]" in texts["0 search"]


@pytest.mark.slow
async def test_what_search_refuses_read_refuses_and_the_other_way_round(tmp_path: Path) -> None:
    planted = Planted(tmp_path / "folder")
    async with engine_over(tmp_path / "data", planted.folder) as engine:
        await engine.index()
        searched: set[str] = set()
        for word in ("narwhal", "ibis", "wombat"):
            offset: int | None = 0
            while offset is not None:
                answer = await engine.search(Query(word, 50, offset, mode="keyword"))
                searched |= {hit.path for hit in answer.hits}
                offset = answer.next_offset
        read = {path for path in planted.paths if '"total_lines"' in await reading(engine, path)}
    assert read == searched
    names = {Path(path).name for path in planted.paths} - {Path(path).name for path in read}
    assert {".env", "id_rsa", "passwords.csv", "wallet.dat", "server.pem", "broken.docx"} <= names
    assert [name for name in names if name.startswith("named-")] and len(names) == 7


@pytest.mark.slow
async def test_a_file_and_a_pattern_that_are_allowed_are_shown_by_every_exit(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "docs").mkdir(parents=True)
    one, two, three = token(), token(), token()
    (folder / "docs" / "example.md").write_text(f"narwhal {one}\n", encoding="utf-8")
    (folder / "note.md").write_text(f"narwhal {two} and {three}\n", encoding="utf-8")
    config = settings(tmp_path / "data")
    async with engine_over(tmp_path / "data", folder, config=config) as engine:
        await engine.index()
        texts = await texts_that_leave(
            engine, ("narwhal",), [str(folder / "note.md"), str(folder / "docs/example.md")]
        )
        assert not any(each in text for text in texts.values() for each in (one, two, three))
    allowed = replace(config, secrets=replace(config.secrets, allow=(two[:12] + ".*",), allow_files=("docs/",)))
    async with engine_over(tmp_path / "data", folder, config=allowed) as engine:
        await engine.index()  # what the change of the configuration has read again
        texts = await texts_that_leave(
            engine, ("narwhal",), [str(folder / "note.md"), str(folder / "docs/example.md")]
        )
        for name in ("search", "read", "page", "tool search", "tool read"):
            assert one in texts[name] and two in texts[name], name
        assert not any(three in text for text in texts.values())
    async with engine_over(tmp_path / "data", folder, config=config) as engine:
        await engine.index()
        texts = await texts_that_leave(
            engine, ("narwhal",), [str(folder / "note.md"), str(folder / "docs/example.md")]
        )
        assert not any(each in text for text in texts.values() for each in (one, two, three))
