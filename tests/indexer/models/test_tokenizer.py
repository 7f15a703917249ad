from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny_models import tokenizer, write_bert, write_static

from indexer.errors import SlotUnavailable
from indexer.models.spec import resolve
from indexer.models.tokenizer import LONGEST_RUN, SEGMENT, Tokens, break_long_runs, open_tokenizer, read_tokenizer


def opened(directory: Path) -> Tokens:
    return open_tokenizer(resolve(str(directory), device="cpu"))


def test_starts_are_where_the_tokens_begin(tmp_path: Path) -> None:
    text = "The lease,  and\nthe valve"
    starts = opened(write_bert(tmp_path)).starts(text)
    # The tokenizer splits words it does not know into letters; these it knows, but for the comma ([UNK]).
    assert [text[s:].split(maxsplit=1)[0] for s in starts] == ["The", "lease,", ",", "and", "the", "valve"]


def test_the_limit_leaves_room_for_special_tokens_and_the_prompt(tmp_path: Path) -> None:
    assert opened(write_bert(tmp_path / "a", max_tokens=32)).limit == 30
    prompts = {"query": "query : ", "document": "the passage : "}
    assert opened(write_bert(tmp_path / "b", max_tokens=32, prompts=prompts)).limit == 27


def test_a_chunk_within_the_limit_is_seen_whole_with_prompt_and_special_tokens(tmp_path: Path) -> None:
    prompts = {"query": "query : ", "document": "passage : "}
    spec = resolve(str(write_bert(tmp_path, max_tokens=24, prompts=prompts)), device="cpu")
    tokens = open_tokenizer(spec)
    text = " ".join(["lease", "tenant's", "42.5", "unknownword"] * 20)
    starts = tokens.starts(text)
    chunk = text[: starts[tokens.limit]].rstrip()
    whole = read_tokenizer(tmp_path / "tokenizer.json").encode(
        spec.passage_prompt + break_long_runs(chunk, spec.max_tokens)
    )
    assert tokens.count(chunk) == tokens.limit
    assert len(whole.ids) == spec.max_tokens


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path: Path) -> None:
    tokens = opened(write_bert(tmp_path))
    assert tokenizer().truncation is not None
    assert tokens.count("lease") == 1
    assert tokens.count("lease " * 100) == 100


def test_positions_stay_exact_behind_long_unspaced_strings(tmp_path: Path) -> None:
    tokens = opened(write_bert(tmp_path))
    blob = "x" * (3 * LONGEST_RUN + 7)
    text = f"the lease {blob} valve {blob[:600]} pump"
    starts = tokens.starts(text)
    assert starts == sorted(starts)
    assert starts[:2] == [0, 4]
    assert {text.index("valve"), text.index("pump")} <= set(starts)
    assert tokens.count(blob) == 3 + 7, "an [UNK] for each piece of 512, letters for the rest"


def test_long_texts_are_read_in_segments_without_losing_a_position(tmp_path: Path) -> None:
    tokens = opened(write_bert(tmp_path))
    text = "lease valve " * SEGMENT
    starts = tokens.starts(text)
    assert starts[:3] == [0, 6, 12]
    assert starts == sorted({*range(0, len(text), 12), *range(6, len(text), 12)})


def test_an_empty_text_has_no_tokens(tmp_path: Path) -> None:
    tokens = opened(write_bert(tmp_path))
    assert tokens.starts("") == []
    assert tokens.starts(" \n ") == []


def test_the_stamp_names_the_recipe(tmp_path: Path) -> None:
    first = opened(write_bert(tmp_path / "a"))
    assert first.stamp == opened(write_bert(tmp_path / "b", seed=9)).stamp
    assert first.stamp != opened(write_bert(tmp_path / "c", max_tokens=20)).stamp
    assert len(first.stamp) == 12


def test_threads_share_one_tokenizer(tmp_path: Path) -> None:
    tokens = opened(write_bert(tmp_path))
    texts = [f"lease {'valve ' * n}" for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(tokens.count, texts * 5))
    assert counts == [n + 1 for n in range(40)] * 5


def test_a_static_table_counts_without_special_tokens(tmp_path: Path) -> None:
    assert opened(write_static(tmp_path)).limit == 512


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    spec = resolve(str(write_bert(tmp_path)), device="cpu")
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SlotUnavailable, match=r"tokenizer\.json is damaged") as caught:
        open_tokenizer(spec)
    assert caught.value.code == "corrupt_files"
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(SlotUnavailable) as caught:
        open_tokenizer(spec)
    assert caught.value.code == "offline_missing"


def test_a_prompt_that_fills_the_window_is_refused(tmp_path: Path) -> None:
    spec = resolve(str(write_bert(tmp_path, max_tokens=4, prompts={"document": "the lease passage : "})), device="cpu")
    with pytest.raises(SlotUnavailable, match="fills its window"):
        open_tokenizer(spec)
