from __future__ import annotations

import random
from pathlib import Path

import pytest
from tiny_models import tokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from indexer.models import tokenizer as tokenizer_module
from indexer.models.locate import Located, find
from indexer.models.tokenizer import LONGEST_RUN, Tokens, _segments, read_tokenizer, word_starts_for

ODD = [
    *("[CLS]", "[MASK]", "[sep]", "x[PAD]y", " ", "  ", "\t", "\n", "\r", "\x00", "\x0b", "\x1c", "\x7f", "\x85"),
    *("\xa0", "\u2028", "\u3000", "\u200b", "\u200d", "é", "e\u0301", "\u0301", "漢", "字", "ß", "İ", "ﬁ", "ΟΔΟΣ"),
    *("क", "\u094d", "self.assertEqual(a,", "__init__", "##ing", "#", "1.2.3", "::", "->", "don't"),
    *("x" * 300, "q" * (LONGEST_RUN + 88)),
]  # fmt: skip


def embedded() -> Tokenizer:
    found = find("all-MiniLM-L6-v2")
    assert isinstance(found, Located)
    return read_tokenizer(Path(found.directory) / "tokenizer.json")


def by_the_whole_text(tokens: Tokens, text: str) -> list[int]:
    return [base + start for base, segment in _segments(text) for start in tokens._segment(segment)]


@pytest.mark.slow
@pytest.mark.parametrize("most", [tokenizer_module.MAX_REMEMBERED, 3])
def test_words_put_together_give_the_tokens_of_the_whole_text(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "MAX_REMEMBERED", most)
    tokens = Tokens(embedded(), 254, "")
    chance = random.Random(7)
    for _ in range(400):
        text = "".join(chance.choice(ODD) for _ in range(chance.randrange(1, 40)))
        assert tokens.starts(text) == by_the_whole_text(tokens, text), repr(text)


def test_a_program_of_many_segments_has_the_tokens_of_the_whole_text() -> None:
    tokens = Tokens(embedded(), 254, "")
    text = Path(__file__).read_text(encoding="utf-8") * 20
    assert tokens.starts(text) == by_the_whole_text(tokens, text)


def test_a_word_seen_before_is_not_tokenized_again() -> None:
    words = word_starts_for(embedded())
    assert words is not None
    asked: list[str] = []

    def starts(text: str) -> list[int]:
        asked.append(text)
        return [0]

    assert words("lease lease\n  lease", starts) == [0, 6, 14]
    assert words("lease", starts) == [0]
    assert asked == ["lease"]


def test_tokenizers_whose_tokens_depend_on_the_neighbours_are_left_alone() -> None:
    bytes_pairs = Tokenizer(models.BPE())
    bytes_pairs.pre_tokenizer = pre_tokenizers.ByteLevel()
    bytes_pairs.decoder = decoders.ByteLevel()
    assert word_starts_for(bytes_pairs) is None
    greedy = tokenizer()
    greedy.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    assert word_starts_for(greedy) is None, "its token would take the space before it along"
    assert word_starts_for(tokenizer()) is not None
