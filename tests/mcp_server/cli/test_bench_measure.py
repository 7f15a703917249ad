"""Figures: right on answers known beforehand, and honest about what was missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes_engine import FakeEngine, open_fake

from indexer.types import Scope, Semantic
from mcp_server.cli import main
from mcp_server.cli.bench import Question, measure, percentile


async def test_each_mode_and_grep_get_a_row_with_rank_and_recall(engine: FakeEngine, notes: Path) -> None:
    keys, bread = str(notes / "keys.md"), str(notes / "bread.md")
    questions = [Question("signing key", keys, 5, 5), Question("flour", bread), Question("nothing of it", bread)]
    said: list[str] = []
    rows = await measure(engine, questions, Scope(), [keys, bread], said.append)
    assert [row.mode for row in rows] == ["keyword", "semantic", "hybrid", "grep"]
    # The fake ranks line 3 before line 5 (same score, by place); grep's block of 40 lines holds both.
    assert [(row.mrr, row.recall_at_10) for row in rows[:3]] == [(0.5, 0.6667)] * 3
    assert (rows[3].mrr, rows[3].recall_at_10) == (0.6667, 0.6667)
    assert all(row.p95_ms >= row.p50_ms > 0 and not row.note for row in rows) and len(said) == 4


async def test_answers_without_meaning_are_said_beside_their_row(engine: FakeEngine, notes: Path) -> None:
    engine.semantic = Semantic("unavailable", 0.0, "loading", "it is being loaded")
    rows = await measure(engine, [Question("key", str(notes / "keys.md"))], Scope(), [], lambda _: None)
    assert all("1 of 1" in row.note for row in rows[:3]) and not rows[3].note


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.95), percentile([7.0], 0.95)) == (50.0, 95.0, 7.0)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    def run(*argv: str) -> int:
        return main.main(argv, {"HOME": str(tmp_path), "FOLDER_MCP_DATA_DIR": str(tmp_path / "data")}, open_fake)

    return run


def test_the_command_draws_questions_and_prints_a_table_or_json(
    run: Callable[..., int], notes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "The vault is opened with two keys by two people. " * 6
    (notes / "vault.md").write_text(f"# Opening the vault\n\n{body}\n", encoding="utf-8")
    assert run("folders", "add", str(notes)) == 0
    capsys.readouterr()
    assert run("bench") == 0
    shown = capsys.readouterr().out
    assert "1 questions" in shown and "--questions" in shown
    assert [line.split()[0] for line in shown.splitlines()[3:7]] == ["keyword", "semantic", "hybrid", "grep"]
    asked = tmp_path / "asked.jsonl"
    asked.write_text(json.dumps({"question": "flour", "path": str(notes / "bread.md")}), encoding="utf-8")
    assert run("bench", "--questions", str(asked), "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["questions"], result["drawn"]) == (1, False)
    assert [row["recall_at_10"] for row in result["rows"]] == [1.0] * 4


def test_nothing_to_ask_and_unreadable_questions_are_said(
    run: Callable[..., int], notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("folders", "add", str(notes)) == 0
    assert run("bench") == 1
    assert "--questions FILE" in capsys.readouterr().err
    assert run("bench", "--questions", str(notes / "none.jsonl")) == 1
    assert "none.jsonl" in capsys.readouterr().err
