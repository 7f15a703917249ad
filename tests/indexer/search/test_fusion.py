"""Fusion and folding: nothing harmed, nothing twice, the same order every time."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from indexer.search.fusion import SemanticRanking, drop_context_only_matches, fold, fuse, parse_query
from indexer.types import Scored, StoredChunk

ENGLISH = frozenset({"en"})
WORDS = parse_query("wing flow")


def chunk(
    name: str, text: str = "", *, path: str = "", folder: str = "/f", ordinal: int = 0, locator: str = ""
) -> StoredChunk:
    text = text or f"text of {name}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return StoredChunk(name, path or f"{folder}/{name}", folder, ordinal, text, "", locator or "lines 1-10", digest)


def ranked(*chunks: StoredChunk) -> list[Scored]:
    return [Scored(found, 10.0 - rank) for rank, found in enumerate(chunks)]


def order(hits: object) -> list[str]:
    return [hit.chunk.chunk_id for hit in hits]  # type: ignore[attr-defined]


orders = st.permutations([chunk(name) for name in "abcdef"])


@given(orders, orders, st.integers(1, 5))
def test_moving_up_in_one_list_never_moves_a_chunk_down(
    by_word: list[StoredChunk], by_meaning: list[StoredChunk], at: int
) -> None:
    before = order(fuse(ranked(*by_word), [SemanticRanking(ranked(*by_meaning))], WORDS))
    raised = by_word[:]
    raised[at - 1], raised[at] = raised[at], raised[at - 1]
    after = order(fuse(ranked(*raised), [SemanticRanking(ranked(*by_meaning))], WORDS))
    assert after.index(by_word[at].chunk_id) <= before.index(by_word[at].chunk_id)


@given(orders, orders)
def test_first_in_both_lists_is_first_with_strength_one(
    by_word: list[StoredChunk], by_meaning: list[StoredChunk]
) -> None:
    best = chunk("z")
    hits = fuse(ranked(best, *by_word), [SemanticRanking(ranked(best, *by_meaning))], WORDS)
    assert hits[0].chunk == best
    assert hits[0].score == 1.0
    assert hits[0].matched == ("semantic", "keyword")
    assert all(1.0 >= hit.score >= following.score > 0 for hit, following in pairwise(hits))


@given(orders, orders)
def test_a_model_that_does_not_know_the_language_changes_nothing_but_the_tail(
    by_word: list[StoredChunk], by_meaning: list[StoredChunk]
) -> None:
    german = parse_query("Wie heißt der Fluss, der durch die Stadt fließt?")
    found = fuse(ranked(*by_word[:4]), [SemanticRanking(ranked(*by_meaning), ENGLISH)], german)
    assert order(found)[:4] == order(fuse(ranked(*by_word[:4]), [], german))
    assert len(found) == 6
    assert all(hit.matched == ("semantic",) for hit in found[4:])


def test_a_query_too_short_takes_the_language_of_what_its_words_found() -> None:
    texts = ["Der Turm ist nicht sehr hoch und die Stadt ist alt.", "Das Haus und der Garten sind nicht groß."]
    by_word = [chunk("a", texts[0]), chunk("b", texts[1])]
    found = fuse(ranked(*by_word), [SemanticRanking(ranked(*reversed(by_word)), ENGLISH)], parse_query("Turm"))
    assert order(found) == ["a", "b"]


def test_foreign_chunks_get_no_vote_from_a_model_that_cannot_read_them() -> None:
    russian = chunk("ru", "Это было в городе, и он не знал, что это так.")
    english = chunk("en", "It was in the city, and he did not know that this was so.")
    question = parse_query("what did he not know in the city")
    found = fuse(ranked(english), [SemanticRanking(ranked(russian, english), ENGLISH)], question)
    assert order(found) == ["en"]


def test_an_identifier_leans_on_keywords_and_a_question_about_code_on_meaning() -> None:
    a, b, c = (chunk(name, path=f"/f/{name}.py") for name in "abc")
    lists = (ranked(a, b, c), [SemanticRanking(ranked(c, b, a))])
    assert order(fuse(*lists, parse_query("readFileSync")))[0] == "a"
    assert order(fuse(*lists, parse_query("how do I read a whole file")))[0] == "c"


def test_a_query_that_is_a_heading_or_a_file_name_gets_that_place_first() -> None:
    others = [chunk(name) for name in "abc"]
    section = replace(chunk("s"), heading="Guide > What is `Indexed`¶")
    file = chunk("f", path="/f/what/is.md")
    lists = (ranked(*others, section, file), [SemanticRanking(ranked(*others))])
    assert order(fuse(*lists, parse_query("what is `indexed`?")))[0] == "s"
    assert order(fuse(*lists, parse_query('"Is.md"')))[0] == "f"
    assert order(fuse(*lists, parse_query("what is indexed here")))[0] == "a"
    assert order(fuse(*lists, parse_query("??")))[0] == "a"
    scores = [hit.score for hit in fuse(*lists, parse_query("What is indexed"))]
    assert scores == sorted(scores, reverse=True) and scores[0] == 1.0


def test_a_folder_without_vectors_is_not_charged_for_it() -> None:
    blind, seen = chunk("x", folder="/blind"), chunk("y", folder="/seen")
    found = fuse(ranked(blind, seen), [SemanticRanking(ranked(seen), None, frozenset({"/seen"}))], WORDS)
    assert {round(hit.score, 1) for hit in found} == {1.0}


def test_a_folder_without_vectors_gains_nothing_by_it_either() -> None:
    blind = [chunk(f"x{n}", folder="/blind") for n in range(4)]
    seen = [chunk(f"y{n}", folder="/seen") for n in range(4)]
    mixed = [hit for pair in zip(blind, seen, strict=True) for hit in pair]
    model = SemanticRanking(ranked(seen[2], chunk("z", folder="/seen")), None, frozenset({"/seen"}))
    found = order(fuse(ranked(*mixed), [model], WORDS))
    assert found[0] == "y2"  # in both lists: before the first of a list that nobody could compare
    assert [name for name in found if name.startswith("x")] == ["x0", "x1", "x2", "x3"]
    assert found.index("x1") < found.index("y1")  # which the model saw and did not name


def test_ranks_of_several_models_are_fused() -> None:
    one, two = chunk("a", folder="/1"), chunk("b", folder="/2")
    lists = [
        SemanticRanking(ranked(one), None, frozenset({"/1"})),
        SemanticRanking(ranked(two), None, frozenset({"/2"})),
    ]
    assert {hit.score for hit in fuse([], lists, WORDS)} == {1.0}


def test_ties_go_by_path_then_position_and_nothing_found_is_nothing() -> None:
    lists = [SemanticRanking(ranked(chunk("b")))]
    assert order(fuse(ranked(chunk("a")), lists, WORDS)) == ["a", "b"]
    assert fuse([], [], WORDS) == []


def test_copies_neighbours_and_overlaps_are_folded_with_their_count() -> None:
    text = " ".join(f"word{number}" for number in range(60))
    hits = fuse(
        ranked(
            chunk("a", text, locator="lines 1-10"),
            chunk("copy", text, path="/f/other"),
            chunk("near", text + " end", path="/f/third"),
            chunk("b", "something else entirely", path="/f/a", ordinal=1, locator="lines 11-20"),
            chunk("c", "far away in the file", path="/f/a", ordinal=7, locator="lines 90-99"),
            chunk("d", "same lines other cut", path="/f/a", ordinal=9, locator="lines 95-120"),
        ),
        [],
        WORDS,
    )
    folded = fold(hits)
    assert [(hit.chunk.chunk_id, hit.folded) for hit in folded] == [("a", 3), ("c", 1)]


def test_two_pages_are_two_places_though_their_lines_are_alike() -> None:
    hits = fuse(
        ranked(
            chunk("a", "first page", path="/f/p", locator="page 1"),
            chunk("b", "second page", path="/f/p", ordinal=1, locator="page 2"),
        ),
        [],
        WORDS,
    )
    assert len(fold(hits)) == 2


def test_one_file_does_not_flood_but_is_not_lost() -> None:
    flood = [
        chunk(
            f"f{n}",
            f"unlike text number {n} " * 9,
            path="/f/a",
            ordinal=2 * n,
            locator=f"lines {20 * n + 1}-{20 * n + 5}",
        )
        for n in range(5)
    ]
    hits = fold(fuse(ranked(*flood, chunk("z")), [], WORDS))
    assert order(hits) == ["f0", "f1", "f2", "z", "f3", "f4"]


def test_folding_twice_changes_nothing() -> None:
    hits = fold(fuse(ranked(*(chunk(name, f"{name} " * 40) for name in "abc")), [], WORDS))
    assert fold(hits) == hits


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=14), min_size=2, max_size=8))
def test_texts_are_folded_exactly_when_nine_tenths_of_their_runs_are_shared(texts: list[list[str]]) -> None:
    common = [f"word{n}" for n in range(70)]
    chunks = [chunk(f"c{n}", " ".join([*common, *tail]), path=f"/f/{n}") for n, tail in enumerate(texts)]
    runs = [{tuple((common + tail)[at : at + 5]) for at in range(66 + len(tail))} for tail in texts]
    kept: list[int] = []
    for n in range(len(texts)):
        if not any(len(runs[n] & runs[k]) >= 0.9 * len(runs[n] | runs[k]) for k in kept):
            kept.append(n)
    assert order(fold(fuse(ranked(*chunks), [], WORDS))) == [f"c{n}" for n in kept]


def test_pieces_that_only_their_paragraph_brought_are_left_out() -> None:
    texts = ["маяк на острове", "горит каждый вечер", "лампа маяка", "длинный рассказ " * 30]
    parts = [chunk(f"p{n}", text, path="/f/a.md", ordinal=n) for n, text in enumerate(texts)]
    far, other = chunk("far", "ни слова", path="/f/a.md", ordinal=40), chunk("other", "тоже ничего", ordinal=1)
    named = chunk("named", "без слов", path="/f/a.md", ordinal=5)
    named = replace(named, heading="Старый маяк")
    hits = drop_context_only_matches(ranked(*parts, far, other, named), parse_query("где стоит маяк"))
    assert order(hits) == ["p0", "p2", "p3", "far", "other", "named"]
