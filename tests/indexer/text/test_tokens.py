"""Search tokens: what a document gives and what a query asks for find each other."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.search.fusion import parse_query
from indexer.text.language import detect
from indexer.text.tokens import MAX_TOKEN, STEM, has_phrase, phrases, query_tokens, tokens, weighted_tokens

_WORDS = ["wing", "Flow", "straße", "HÄUSER", "café", "running", "ΛΌΓΟΣ", "привет"]


def finds(query: str, text: str, *, language: str | None = None, heading: str = "", name: str = "") -> bool:
    return bool(set(query_tokens(query)) & set(tokens(text, heading, name, language).split(" ")))


@given(st.text(max_size=300))
def test_tokens_never_hold_white_space_surrogates_or_more_than_the_longest_token(text: str) -> None:
    for token in [*tokens(text).split(" "), *query_tokens(text)]:
        assert not any(letter.isspace() for letter in token)
        assert len(token) <= MAX_TOKEN + len(STEM)
        token.encode("utf-8")


@given(st.text(alphabet=st.characters(categories=("Lu", "Ll", "Nd", "Zs")), max_size=80))
def test_every_word_a_document_holds_is_found_by_asking_for_it(text: str) -> None:
    for word in unicodedata.normalize("NFKC", text).split():
        if query_tokens(word):
            assert finds(word, text), word


@given(
    st.lists(
        st.sampled_from(["wing", "Flow", "straße", "HÄUSER", "café", "running", "ΛΌΓΟΣ", "привет"]),
        min_size=1,
        max_size=6,
    )
)
def test_case_and_width_make_no_difference(words: list[str]) -> None:
    text = " ".join(words)
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
    assert tokens(text.upper(), language="en") == tokens(text, language="en") == tokens(wide, language="en")


def test_the_same_text_gives_the_same_tokens_in_order() -> None:
    assert tokens("one two", "Head", "a/b.txt", "en").split(" ")[:2] == ["one", "one~"]
    assert tokens("x" * 1000, language="en") == tokens("x" * 1000, language="en")


@pytest.mark.parametrize(
    "text",
    ["the of and to", "Was ist das?", "who is it", "to be or not to be", "и в не", "что это", "的", "a"],
)
def test_query_of_function_words_alone_still_asks_for_something(text: str) -> None:
    assert query_tokens(text)


def test_function_words_go_when_the_query_has_others() -> None:
    asked = query_tokens("what is the boundary layer of a wing")
    assert "wing" in asked
    assert not {"what", "is", "the", "of"} & set(asked)


def test_repetition_is_weight_and_a_stem_weighs_twice_its_word() -> None:
    asked = weighted_tokens("how are the wings 1.2.3 built")
    assert asked.count("wings") == 1
    assert asked.count("wing~") == 2
    assert asked.count("1.2.3") == 3
    assert len(query_tokens("a b a b")) == len(set(query_tokens("a b a b")))


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("本語", "日本語のテキスト"),
        ("狗", "我的狗在花园里"),
        ("テキスト", "日本語のテキスト"),
        ("ﾃｷｽﾄ", "日本語のテキスト"),
        ("Python", "使用Python3编程"),
        ("编程", "使用Python3编程"),
        ("검색", "검색하는방법"),
        ("ภาษา", "ฉันเรียนภาษาไทย"),
        ("ភាសា", "ខ្ញុំរៀនភាសាខ្មែរ"),
        ("မြန်မာ", "ကျွန်တော်မြန်မာစာ"),
        ("किताब", "यह मेरी किताबें हैं"),
        ("புத்தகம்", "இது என் புத்தகம்"),
        ("книга", "я читаю книги каждый день"),
        ("Haus", "Die Häuser sind nicht groß und die Straße ist lang"),
        ("strasse", "Die Straße ist lang"),
        ("cafe", "Le café est dans la rue"),
        ("п'ять", "було п’ять днів"),
        ("كتاب", "قرأت الكِتَاب في البيت"),
        ("٣١٤", "الرقم 314"),
    ],
)
def test_words_and_parts_of_words_are_found_in_every_script(query: str, text: str) -> None:
    assert finds(query, text)


def test_hindi_words_keep_their_vowel_signs() -> None:
    assert "किताबें" in tokens("यह मेरी किताबें हैं").split(" ")


@pytest.mark.parametrize(
    ("identifier", "parts"),
    [
        ("readFileSync", ["read", "file", "sync", "readfilesync", "READFILESYNC", "readFileSync"]),
        ("XMLHttpRequest", ["xml", "http", "request", "XMLHttpRequest"]),
        ("parse_json_file", ["parse", "json", "file", "parse_json_file", "parseJsonFile", "parse-json-file"]),
        ("os.path.join", ["join", "os.path.join", "path"]),
        ("std::vector", ["vector", "std::vector"]),
        ("/usr/share/doc/Foo.txt", ["share", "foo.txt", "Foo"]),
        (r"C:\Users\ada\Notes.md", ["ada", "notes.md"]),
        ("v1.2.3", ["1.2.3", "v1.2.3", "1.2"]),
        ("package-1.2.3rc1.tar.gz", ["1.2.3", "package", "tar"]),
        ("error[E0308]: mismatched", ["E0308", "e0308", "0308"]),
        ("HTTP 404 Not Found", ["404", "http"]),
        ("0x80070005", ["0x80070005", "80070005"]),
        ("SHA-256", ["sha256", "sha", "256", "SHA-256"]),
        ("C++ and C#", ["C++", "c#", "C"]),
        ("__init__", ["init", "__init__"]),
        ("URLsFor the APIs", ["urls", "api", "APIs"]),
        ("1,000 items", ["1000", "1,000"]),
        ("state-of-the-art", ["art", "state-of-the-art"]),
        ("exam-\nple text", ["example"]),
        ("U.S. law", ["us", "U.S."]),
    ],
)
def test_identifiers_are_found_by_part_and_whole(identifier: str, parts: list[str]) -> None:
    for part in parts:
        assert finds(part, identifier, language="en"), part


def test_exact_identifier_shares_more_than_its_parts() -> None:
    asked = set(query_tokens("get_user_name"))
    exact = set(tokens("get_user_name", language="en").split(" "))
    apart = set(tokens("get the user and the name", language="en").split(" "))
    assert len(asked & exact) > len(asked & apart)


def test_heading_and_file_name_are_searchable() -> None:
    assert finds("installation", "Run make.", heading="Guide > Installation", language="en")
    assert finds("budget", "numbers", name="reports/Budget_2026.csv", language="en")


def test_a_stem_is_not_taken_for_a_word() -> None:
    assert not set(query_tokens("us")) & {t for t in tokens("use", language="en").split(" ") if t.endswith(STEM)}


def test_a_language_taken_wrongly_costs_the_stem_but_not_the_word() -> None:
    assert finds("Häuser", "Häuser", language="fr")


def test_invisible_characters_do_not_part_words() -> None:
    assert finds("example", "ex\u00adam\u200dple", language="en")
    assert tokens("\ud800 \x00", language="en") == ""


def test_phrases_are_what_stands_in_quotes() -> None:
    assert phrases('say "exact phrase" and „noch eine“ or «третья»') == ["exact phrase", "noch eine", "третья"]
    assert has_phrase("An EXACT\n  phrase here", "exact phrase")
    assert not has_phrase("phrase exact", "exact phrase")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the name of the river that runs through the city?", "en"),
        ("Wie heißt der Fluss, der durch die Stadt fließt?", "de"),
        ("Quel est le nom de la rivière qui traverse la ville ?", "fr"),
        ("¿Cómo se llama el río que pasa por la ciudad?", "es"),
        ("Как называется река, которая протекает через город?", "ru"),
        ("Яка річка протікає через це місто?", "uk"),
        ("流经这座城市的河流叫什么名字？", "zh"),
        ("街を流れる川の名前は何ですか", "ja"),
        ("도시를 흐르는 강의 이름은?", "ko"),
        ("शहर से होकर बहने वाली नदी का नाम क्या है?", "hi"),
        ("Los Angeles, Los Angeles, Los Angeles: teams from the city and the county", "en"),
        ("x = 1", ""),
        ("", ""),
    ],
)
def test_language_shows_in_a_question(text: str, language: str) -> None:
    assert detect(text) == language


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ENOENT", "identifier"),
        ("os.path.join", "identifier"),
        ("error[E0308]", "identifier"),
        ('"exact phrase"', "identifier"),
        ("how do I sort a list by key", "question"),
        ("什么时候建成的这座桥？", "question"),
        ("wing flow", "words"),
        ("how does os.path.join treat absolute paths", "words"),
    ],
)
def test_kind_of_a_query(text: str, kind: str) -> None:
    assert parse_query(text).kind == kind


def test_a_language_without_a_stemmer_takes_its_scripts_stems_so_that_relatives_need_not_be_told_apart() -> None:
    document = tokens("Увімкніть пружні клавіші, якщо у вас тремтять руки, і це є в огляді.", language="uk").split()
    assert "клавіші" in document
    stems = {token for token in document if token.endswith("~")}
    for query in ("рукою", "тремтіння руками"):  # nothing in them tells Ukrainian from Russian for sure
        assert stems & set(query_tokens(query)), query
