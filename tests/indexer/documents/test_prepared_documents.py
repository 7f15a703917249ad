"""Files cut in the worker processes: the same chunks as here, and whatever a file does costs that file."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from hostile import HOSTILE, described, script

from indexer.config import ModelSettings
from indexer.documents import worker_protocol
from indexer.documents.parse import Parsed, ParseLimits, parse_here
from indexer.documents.pool import ParserDied, Parsers, open_parsers
from indexer.documents.pool_status import PoolTiming
from indexer.documents.worker_protocol import ChunkedDocument, ChunkRequest, PreparedFile, chunk_document
from indexer.errors import ParseFailed
from indexer.models.spec import resolve
from indexer.models.tokenizer import Tokens, open_tokenizer
from indexer.types import Chunk, Document, File, Locator, Unit

QUICK = PoolTiming(ready=30, attempts=3, pause=0.01, idle=60)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return open_tokenizer(resolve(ModelSettings().default))


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    return script(tmp_path / "hostile-python", HOSTILE)


def order(tokens: Tokens, known_sha256: str = "", **changes: str) -> ChunkRequest:
    given = {"tokenizer": tokens.path, "stamp": tokens.stamp} | changes
    return ChunkRequest(limit=tokens.limit, name="notes/a.md", known_sha256=known_sha256, **given)


def written(folder: Path, name: str, text: str = "# A heading\n\nsome words of it\n") -> File:
    place = folder / name
    place.write_text(text, encoding="utf-8")
    return described(place)


def said(parsers: Parsers) -> str:
    return " ".join(complaint.text for complaint in parsers.status().warnings)


@pytest.mark.slow
async def test_a_file_cut_in_a_worker_has_the_chunks_it_would_have_here(tmp_path: Path, tokens: Tokens) -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    files = [
        written(tmp_path, "program.py", source * 3),
        written(tmp_path, "table.csv", "name,price\n" + "tea,3\n" * 900),
        written(tmp_path, "deutsch.md", "# Über das Haus\n\nDas Haus ist nicht groß, aber es ist schön und hell.\n"),
        written(tmp_path, "empty.txt", ""),
        written(
            tmp_path, "key.txt", "words\n\n-----BEGIN " + "PRIVATE KEY-----\nabc\n-----END " + "PRIVATE KEY-----\n"
        ),
    ]
    with anyio.fail_after(60):
        async with open_parsers() as parsers:
            for file in files:
                made = await parsers.prepare(file, order(tokens))
                parsed = parse_here(file.path, ParseLimits())
                here = chunk_document(parsed.document, tokens, tokens.limit, "notes/a.md")
                assert made == PreparedFile(parsed.document.parser, parsed.sha256, parsed.size, parsed.mtime_ns, here)
                again = await parsers.prepare(file, order(tokens, known_sha256=parsed.sha256))
                assert again is not None and again.chunked is None
            assert (parsers.status().missing, parsers.status().restarts) == ((), 0)


def test_a_long_text_travels_in_frames_of_bounded_size() -> None:
    chunks = tuple(Chunk(n, "word é " * 300, f"H {n}", Locator("page", "3", n, n + 1)) for n in range(800))
    made = ChunkedDocument(chunks, tuple(f"word {n}" for n in range(800)), "en", ("password", "key"))
    parsed = Parsed(Document((Unit("lines", "", "x"),), "text", "plain/1"), "ab", 5, 6)
    sent = [worker_protocol.encode_frame(message)[4:] for message in worker_protocol.prepared_messages(parsed, made)]
    assert len(sent) > 2 and max(map(len, sent)) < 2 * worker_protocol.CHARS
    assert worker_protocol.prepared_from([worker_protocol.decode_frame(body) for body in sent]) == PreparedFile(
        "plain/1", "ab", 5, 6, made
    )


@pytest.mark.slow
async def test_plain_text_that_kills_its_process_costs_one_file(tmp_path: Path, tokens: Tokens, hostile: str) -> None:
    short = ParseLimits(seconds=2, seconds_per_mb=0, memory_bytes=700 << 20)
    with anyio.fail_after(60):
        async with open_parsers(interpreter=hostile, timing=QUICK, limits=short) as parsers:
            with pytest.raises(ParserDied, match="crashed on this file"):
                await parsers.prepare(written(tmp_path, "crash.txt"), order(tokens))
            with pytest.raises(ParserDied, match="took longer than the limit"):
                await parsers.prepare(written(tmp_path, "hang.txt"), order(tokens))
            with pytest.raises(ParseFailed, match="the parser failed: LookupError"):
                await parsers.prepare(written(tmp_path, "odd.txt"), order(tokens))
            made = await parsers.prepare(written(tmp_path, "sound.txt"), order(tokens))
            assert made is not None and made.chunked is not None and len(made.chunked.chunks) == 1


@pytest.mark.slow
async def test_cutting_has_a_time_limit_of_its_own(tmp_path: Path, tokens: Tokens) -> None:
    limits = ParseLimits(chunk_seconds=0.01, chunk_seconds_per_mchar=0)
    with anyio.fail_after(60):
        async with open_parsers(limits=limits) as parsers:
            with pytest.raises(ParserDied, match="took longer than the limit of 0 s"):
                await parsers.prepare(written(tmp_path, "long.md", "# One\n\nmany words\n\n" * 40_000), order(tokens))


@pytest.mark.slow
async def test_three_processes_lost_in_a_row_leave_the_cutting_to_the_caller(
    tmp_path: Path, tokens: Tokens, hostile: str
) -> None:
    file = written(tmp_path, "crash.txt")
    with anyio.fail_after(60):
        async with open_parsers(interpreter=hostile, timing=QUICK) as parsers:
            for _ in range(3):
                with pytest.raises(ParserDied):
                    await parsers.prepare(file, order(tokens))
            assert await parsers.prepare(file, order(tokens)) is None
            assert "died over files to cut" in said(parsers)


@pytest.mark.slow
async def test_a_worker_that_cannot_have_the_tokenizer_leaves_the_cutting_to_the_caller(
    tmp_path: Path, tokens: Tokens
) -> None:
    file = written(tmp_path, "note.md")
    with anyio.fail_after(60):
        async with open_parsers() as parsers:
            assert await parsers.prepare(file, order(tokens, tokenizer="")) is None
            assert parsers.no_process
            assert await parsers.prepare(file, order(tokens, stamp="another")) is None
            assert "has been replaced" in said(parsers)


async def test_without_processes_the_cutting_is_the_callers(tmp_path: Path, tokens: Tokens) -> None:
    async with open_parsers(interpreter=str(tmp_path / "nowhere")) as parsers:
        assert await parsers.prepare(written(tmp_path, "note.md"), order(tokens)) is None
        assert parsers.status().step == "plain text only"
