"""``read`` with paths in other spellings: what names an indexed file is read, the rest refused with a reason."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engines import ask, engine_over
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client

from indexer.errors import QueryError
from mcp_server.engine_port import ConnectionContext
from mcp_server.page import api
from mcp_server.protocol.arguments import path_from
from mcp_server.protocol.untrusted import shown_path

pytestmark = pytest.mark.slow

SECRET = "outside the folder"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside.md").write_text(SECRET, encoding="utf-8")
    for name in ("note.md", "sub/inner.md", "a%20b.md", "%2e%2e.md", "two words.md", "back\\slash.md"):
        (folder / name).write_text(f"inside {name}\n", encoding="utf-8")
    (folder / os.fsdecode(b"latin\xe9.md")).write_text("inside latin\n", encoding="utf-8")
    (folder / unicodedata.normalize("NFD", "caf\u00e9.md")).write_text("inside decomposed\n", encoding="utf-8")
    return folder


@pytest.fixture
async def client(tmp_path: Path, folder: Path, shared_server) -> AsyncIterator[Client]:  # type: ignore[no-untyped-def]
    server, lends = shared_server
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        lends.append(ConnectionContext(engine))
        async with Client(server, mode="legacy") as client:
            yield client


async def read(client: Client, path: str) -> tuple[bool, str]:
    """Whether a path was read, and the text or the refusal."""
    result = await client.call_tool("read", {"path": path})
    text = "".join(part.text for part in result.content)  # type: ignore[union-attr]
    assert SECRET not in text
    return not result.is_error, text


def spellings(folder: Path) -> dict[str, bool]:
    """Spellings of paths, and whether each names an indexed file."""
    address, up = f"file://{folder}", "../outside.md"
    return {
        f"{folder}/note.md": True,
        f"{folder}/./sub/../note.md": True,
        f"{folder}//note.md": True,
        "note.md": True,
        "sub/inner.md": True,
        f"{address}/note.md": True,
        f"file://localhost{folder}/note.md": True,
        f"{address}/%6e%6f%74%65.md": True,
        f"{address}/sub%2finner.md": True,
        f"{address}/sub/%2e%2e/note.md": True,
        f"{address}/two%20words.md": True,
        f"{folder}/two words.md": True,
        f"{folder}/a%20b.md": True,  # its name, not an escape
        f"{folder}/%2e%2e.md": True,
        f"{folder}/back\\slash.md": True,
        f"{address}/latin%E9.md": True,
        f"{folder}/{up}": False,
        up: False,
        f"{address}/{up}": False,
        f"{address}/%2e%2e/outside.md": False,
        f"{address}/%2e%2e%2foutside.md": False,
        f"{address}/%252e%252e/outside.md": False,
        f"{address}/%252e%252e%252foutside.md": False,
        f"{address}/%c0%ae%c0%ae/outside.md": False,
        f"{address}/%c0%ae%c0%ae%c0%afoutside.md": False,
        f"{address}/..%c0%afoutside.md": False,
        f"{address}/..%5coutside.md": False,
        f"{address}/..%00/outside.md": False,
        f"{address}/note.md%00.png": False,
        f"{folder}/%2e%2e/outside.md": False,
        f"{folder}/..%2foutside.md": False,
        f"{folder}/two%20words.md": False,
        f"{folder}\\..\\outside.md": False,
        "..\\outside.md": False,
        f"{folder}/\uff0e\uff0e/outside.md": False,
        f"{folder}/..\u2215outside.md": False,
        "/proc/self/cwd/outside.md": False,
        "file:///etc/passwd": False,
        "file://evil.example/etc/passwd": False,
        "file:../outside.md": False,
        "file:": False,
        "~/outside.md": False,
        "~root/.bashrc": False,
        "": False,
        ".": False,
        "/": False,
    }


async def test_a_path_in_another_spelling_is_read_when_it_names_an_indexed_file(client: Client, folder: Path) -> None:
    for path, known in spellings(folder).items():
        done, text = await read(client, path)
        assert done == known, (path, text)
        assert ("inside" in text) == known, (path, text)


async def test_the_page_takes_the_same_spellings(tmp_path: Path, folder: Path) -> None:
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        for path, known in spellings(folder).items():
            try:
                document = await api.read(engine, api.ReadRequest(path=path))
            except QueryError:
                assert not known, path
            else:
                assert known, path
                assert document["text"].startswith("inside")


async def test_a_name_that_is_no_text_is_read_as_search_shows_it(tmp_path: Path, folder: Path) -> None:
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        (hit,) = (await ask(engine, "latin", "keyword")).hits
        shown = shown_path(hit.path)
        assert shown.endswith("/latin%E9.md")
        assert (await engine.read(path_from(shown))).text == "inside latin"


async def test_a_composed_name_finds_the_decomposed_file_and_an_ambiguous_one_names_both(
    client: Client, tmp_path: Path, folder: Path
) -> None:
    composed = unicodedata.normalize("NFC", f"{folder}/caf\u00e9.md")
    done, text = await read(client, composed)
    assert done
    assert "inside decomposed" in text
    for form in ("NFC", "NFD"):
        (folder / unicodedata.normalize(form, "\u1e69\u00e9.md")).write_text(f"inside {form}\n", encoding="utf-8")
    async with engine_over(tmp_path / "other", folder) as engine:
        await engine.index()
        for form in ("NFC", "NFD"):
            exact = unicodedata.normalize(form, f"{folder}/\u1e69\u00e9.md")
            assert (await engine.read(exact)).text == f"inside {form}"
        with pytest.raises(QueryError, match="one of 2 files that are spelled alike") as refused:
            await engine.read(f"{folder}/s\u0307\u0323e\u0301.md")
        (first, second) = (path_from(word.rstrip(",;")) for word in str(refused.value).split() if "file://" in word)
        assert {(await engine.read(first)).text, (await engine.read(second)).text} == {"inside NFC", "inside NFD"}


async def test_resources_outside_the_server_are_not_read(client: Client, folder: Path) -> None:
    for uri in (
        f"file://{folder}/note.md", "file:///etc/passwd", "folder-mcp://status/../../etc/passwd",
        "folder-mcp://status%2f..%2f..%2fetc", "folder-mcp://%2e%2e/etc/passwd", "folder-mcp://\ufffd",
    ):  # fmt: skip
        with pytest.raises(Exception, match=r"(?i)unknown|not found|invalid|resource"):
            await client.read_resource(uri)


@given(st.text(st.sampled_from("./\\%25cafe0 ~\x00\ud800\ufffd:")))
def test_any_text_becomes_a_path_or_a_refusal(text: str) -> None:
    for spelled in (text, f"file:{text}", f"file:///{text}"):
        try:
            path = path_from(spelled)
        except QueryError as refused:
            assert str(refused)
        else:
            assert b"\0" not in os.fsencode(path)
