"""Ignore files that strangers wrote: a bounded time whatever their patterns, and what does not count is said."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from indexer.files.ignore import LATE_FILE, LATE_WILDCARDS, MAX_IGNORE_FILE, Ignore
from indexer.files.patterns import MAX_PATTERN, MAX_WILDCARDS, Match, Rules, compile_set
from indexer.files.walk import DIRECTORY_S, ENTRY_S, LEAST_S, SPARE_S, Skipped, stat_file, walk
from indexer.files.watch import relevant

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "**/a/" * 8 + "**/c/*.txt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path.resolve() / "root"
    made.mkdir()
    return made


def make(root: Path, *names: str) -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("text")


def look(root: Path, ignore: Ignore | None = None) -> tuple[set[str], dict[str, Skipped]]:
    """Names of files that the walk finds, and what it skipped with a reason by path below the root."""
    found = list(walk(str(root), ignore or Ignore(str(root))))
    files = {os.path.relpath(each.path, root) for each in found if not isinstance(each, Skipped)}
    return files, {os.path.relpath(each.path, root): each for each in found if isinstance(each, Skipped)}


def cpu_seconds(began: float) -> float:
    return time.process_time() - began


# Linear time --------------------------------------------------------------------------------------------------------


def test_the_pattern_that_hung_the_program_costs_nothing(root: Path) -> None:
    make(root, "good.md", "vendor/" + "a/" * 60 + "x.txt", "vendor/" + "a/" * 60 + "c/y.txt")
    (root / "vendor/.gitignore").write_text(HOSTILE + "\n")
    began = time.process_time()
    files, skipped = look(root)
    assert files == {"good.md", "vendor/" + "a/" * 60 + "x.txt"} and not skipped
    assert cpu_seconds(began) < 1  # 0.01 s; it did not end within minutes


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**/a/" * 30 + "**/c/*.txt", "a/" * 1000 + "x.txt", False),
        ("**/a/" * 30 + "**/c/*.txt", "a/" * 1000 + "c/x.txt", True),
        ("*a" * 60 + "*b", "a" * 250, False),
        ("*a" * 60 + "*b", "a" * 250 + "b", True),
        ("*?" * 100 + "*", "a" * 250, True),
        ("**/**/" * 200 + "x", "a/" * 1000 + "y", False),
        ("[!b]*" * 120 + "b", "a" * 250, False),
        ("*[[:alpha:]]" * 100 + "[0-9]", "a" * 255, False),
        ("x/" + "**/*/" * 300 + "y", "x/" + "z/" * 1000 + "y", True),
    ],
)
def test_the_worst_patterns_match_in_milliseconds(pattern: str, path: str, matches: bool) -> None:
    rules = Rules([pattern], "")
    began = time.process_time()
    found = rules.find(path, path.rpartition("/")[2], False)
    assert (found is not None) is matches
    assert cpu_seconds(began) < 0.5  # at most 0.02 s; Python's re needs exponential time for each


@pytest.mark.parametrize("setting", ["exclude", "include"])
def test_the_configuration_is_matched_by_the_same_engine(root: Path, setting: str) -> None:
    make(root, "a/" * 60 + "x.txt")
    began = time.process_time()
    files, _ = look(root, Ignore(str(root), **{setting: [HOSTILE]}))  # type: ignore[arg-type]
    assert files == {"a/" * 60 + "x.txt"} and cpu_seconds(began) < 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "form", ["file{}x", "dir{}/file", "*.e{}", "**/n{}", "!n{}/", "**/a/n{}", "n{}*", "[Aa]{}", "/{}", "\\#{}", "{} "]
)
def test_a_mebibyte_of_patterns_is_read_in_a_second_or_two(root: Path, form: str) -> None:
    """As many short lines as an ignore file may have, each of a kind that is looked up, whatever their number."""
    lines: list[str] = []
    most = {"\\": MAX_WILDCARDS, "[": 10_000}.get(form[0], MAX_IGNORE_FILE)
    size, number = 0, 0
    while size < MAX_IGNORE_FILE - 20 and len(lines) < most:
        lines.append(form.format(number))
        size, number = size + len(lines[-1]) + 1, number + 1
    began = time.process_time()
    rules = Rules(lines, "")
    assert len(rules) == len(lines) and not rules.excess
    assert cpu_seconds(began) < 5  # 0.1 to 0.6 s
    began = time.process_time()
    for number in range(2000):
        rules.find(f"a/b{number}/c{number}.txt", f"c{number}.txt", False)
    assert cpu_seconds(began) < 1  # 0.01 s: the number of lines does not count


@pytest.mark.slow
def test_thousands_of_wildcard_patterns_are_tried_together(root: Path) -> None:
    rules = Rules([f"**/a{number}*/x*y{number}.txt" for number in range(MAX_WILDCARDS)], "")
    began = time.process_time()
    for number in range(300):
        assert rules.find(f"q/a{number}b/x.y{number}.txt", f"x.y{number}.txt", False) is not None
        assert rules.find(f"q/a{number}b/c{number}.txt", f"c{number}.txt", False) is None
    assert cpu_seconds(began) < 5  # 0.4 s; one by one they take 3 million matches


# Limits, and what is said -------------------------------------------------------------------------------------------


def test_a_pattern_that_is_too_long_is_refused_by_line_and_the_rest_of_its_file_holds(root: Path) -> None:
    make(root, "a.txt", "b.txt", "sub/a.txt")
    (root / ".gitignore").write_text("a.txt\n" + "?" * (MAX_PATTERN + 1) + "\n/b.txt\n")
    files, skipped = look(root)
    assert files == set()
    assert skipped["."].kind == "pattern"
    assert "line 2" in skipped["."].reason and str(root / ".gitignore") in skipped["."].reason


def test_only_the_first_of_many_refused_patterns_are_named(root: Path) -> None:
    make(root, "a.txt")
    (root / ".gitignore").write_text(("[" + "x" * MAX_PATTERN + "]\n") * 20)
    reason = look(root)[1]["."].reason
    assert "line 3" in reason and "line 4 " not in reason and "17 more" in reason


@pytest.mark.parametrize("name", [".gitignore", ".folder-mcpignore", ".git/info/exclude"])
def test_a_directory_whose_ignore_file_is_too_large_is_closed_and_the_rest_goes_on(root: Path, name: str) -> None:
    make(root, "a.txt", "sub/b.txt", "sub/deep/c.txt", "other/d.txt")
    file = root / "sub" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("x" * (MAX_IGNORE_FILE + 1))
    files, skipped = look(root)
    assert files == {"a.txt", "other/d.txt"}
    assert list(skipped) == ["sub"] and skipped["sub"].kind == "unreadable"
    assert str(file) in skipped["sub"].reason and "1 MiB" in skipped["sub"].reason
    file.write_text("b.txt\n")
    assert look(root)[0] == {"a.txt", "other/d.txt", "sub/deep/c.txt"}


def test_a_directory_with_too_many_wildcard_patterns_is_closed(root: Path) -> None:
    make(root, "a.txt", "sub/b.txt")
    (root / "sub/.gitignore").write_text("".join(f"a*{number}*b\n" for number in range(MAX_WILDCARDS + 1)))
    files, skipped = look(root)
    assert files == {"a.txt"}
    assert f"more than {MAX_WILDCARDS:,} patterns with wildcards" in skipped["sub"].reason
    assert str(root / "sub/.gitignore") in skipped["sub"].reason


def test_ignore_files_that_apply_together_have_a_limit_together(root: Path) -> None:
    make(root, "a/b/c/x.txt", "d/y.txt")
    for directory in ("a", "a/b", "a/b/c"):
        (root / directory / ".gitignore").write_text("".join(f"a*{n}*b\n" for n in range(MAX_WILDCARDS // 2)))
    files, skipped = look(root)
    assert files == {"d/y.txt"} and list(skipped) == ["a/b/c"]
    assert str(root / "a/b/c/.gitignore") in skipped["a/b/c"].reason


def test_one_path_and_the_watcher_agree_that_a_directory_is_closed(root: Path) -> None:
    make(root, "sub/b.txt", "a.txt")
    (root / "sub/.gitignore").write_text("x" * (MAX_IGNORE_FILE + 1))
    ignore = Ignore(str(root))
    assert ignore.verdict(str(root / "sub/b.txt")).ignored and not ignore.verdict(str(root / "sub")).ignored
    assert stat_file(str(root / "sub/b.txt"), str(root), ignore) is None
    assert relevant([str(root / "sub/b.txt"), str(root / "a.txt")], ignore) == {str(root / "a.txt")}


@pytest.mark.parametrize("where", ["exclude", "global"])
def test_limits_hold_for_the_configuration_and_the_global_file_too(root: Path, tmp_path: Path, where: str) -> None:
    make(root, "a.txt")
    lines = [f"a*{number}*b" for number in range(MAX_WILDCARDS + 1)]
    (tmp_path / "global").write_text("\n".join(lines))
    rules = {"exclude": lines} if where == "exclude" else {"global_excludes": str(tmp_path / "global")}
    files, skipped = look(root, Ignore(str(root), **rules))  # type: ignore[arg-type]
    assert files == set() and list(skipped) == ["."]
    assert skipped["."].kind == "unreadable", "what is indexed is kept"
    assert "wildcards" in skipped["."].reason


def test_what_a_reason_quotes_cannot_write_to_a_terminal(root: Path) -> None:
    make(root, "a.txt", "\x1b[31mred\n/b.txt")
    (root / "\x1b[31mred\n/.gitignore").write_text("\x1b[2J" + "x" * MAX_PATTERN)
    (skipped,) = look(root)[1].values()
    assert "\x1b" not in skipped.reason and "\n" not in skipped.reason


# The time limit of a directory --------------------------------------------------------------------------------------


class Slow:
    """RE2 with a made-up price of each match, and the clock that it moves on."""

    def __init__(self, seconds: dict[bytes, float]) -> None:
        self.seconds = seconds
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def compile(self, expressions: Sequence[bytes]) -> Match:
        match = compile_set(expressions)
        price = sum(cost for part, cost in self.seconds.items() for each in expressions if part in each)

        def counted(data: bytes) -> Sequence[int]:
            self.now += price
            return match(data)

        return counted

    def ignore(self, root: Path, **rules: object) -> Ignore:
        return Ignore(str(root), compile_all=self.compile, clock=self.clock, **rules)  # type: ignore[arg-type]


def test_a_directory_that_takes_too_long_is_skipped_with_the_pattern_to_blame_and_the_rest_goes_on(root: Path) -> None:
    make(root, "a.txt", "sub/one.txt", "sub/two.txt", "sub/deep/c.txt", "other/d.txt")
    (root / ".gitignore").write_text("quick*er?x\n")
    (root / "sub/.gitignore").write_text("# a comment\nslow*est*[!t]\nslower?x*y\n*.log\n")
    slow = Slow({b"est": 1.0, b"slower": 0.1, b"quick": 0.0001})
    (root / "sub").joinpath("slow-est.txt").write_text("x")
    (root / "sub").joinpath("est.txt").write_text("x")
    files, skipped = look(root, slow.ignore(root))
    assert files == {"a.txt", "other/d.txt"}
    assert list(skipped) == ["sub"] and skipped["sub"].kind == "unreadable"
    assert "line 2" in skipped["sub"].reason and "slow*est*[!t]" in skipped["sub"].reason
    assert str(root / "sub/.gitignore") in skipped["sub"].reason
    assert "CPU time" in skipped["sub"].reason


def test_the_limit_of_a_directory_grows_with_its_entries(root: Path) -> None:
    make(root, *(f"slow{number}.txt" for number in range(200)))
    (root / ".gitignore").write_text("slow*[!t]\n")
    share = ENTRY_S * 0.9
    assert len(look(root, Slow({b"slow": share}).ignore(root))[0]) == 200
    skipped = look(root, Slow({b"slow": DIRECTORY_S}).ignore(root))[1]
    assert list(skipped) == ["."]


def test_many_slow_directories_have_a_limit_together(root: Path) -> None:
    """Each may take a quarter of a second beyond its entries' share, all of them five; then a fortieth."""
    count = 60
    for number in range(count):
        make(root, f"d{number}/slow.txt")
        (root / f"d{number}/.gitignore").write_text("slow*[!t]\n")
    price = DIRECTORY_S * 0.9
    slow = Slow({b"slow": price})
    files, skipped = look(root, slow.ignore(root))
    assert len(files) + len(skipped) == count
    beyond = price - 2 * ENTRY_S  # of its entries' share, for each directory: the note and the ignore file
    assert SPARE_S / price - 1 <= len(files) <= SPARE_S / beyond + 1, "these fit into the common time"
    slow = Slow({b"slow": LEAST_S * 0.9})
    assert len(look(root, slow.ignore(root))[0]) == count, "what takes little is never skipped"


@pytest.mark.parametrize("kind", ["long", "many"])
def test_when_the_common_time_is_spent_large_ignore_files_close_directories_unread(root: Path, kind: str) -> None:
    filler = "# long\n" * (LATE_FILE // 7 + 1) if kind == "long" else "q?q\n" * (LATE_WILDCARDS + 1)
    for number in range(60):
        make(root, f"d{number}/slow.txt")
        (root / f"d{number}/.gitignore").write_text(f"{filler}slow*[!t]\n")
    make(root, "plain/a.txt", "plain/b.log")
    (root / "plain/.gitignore").write_text("*.log\n")
    slow = Slow({b"slow": DIRECTORY_S * 0.9})
    files, skipped = look(root, slow.ignore(root))
    assert "plain/a.txt" in files and "plain/b.log" not in files, "small ignore files are applied as ever"
    reasons = [each.reason for each in skipped.values()]
    assert len(files) - 1 + len(skipped) == 60 and len(reasons) > 30
    unread = [reason for reason in reasons if "so much CPU time that no larger ones are applied" in reason]
    assert len(unread) >= len(reasons) - 1, "one directory at most is matched for longer than what was left"
    assert slow.now <= SPARE_S + DIRECTORY_S * 2, "no match after that"


def test_a_small_ignore_file_is_indexed_and_a_large_one_once_it_matches() -> None:
    text = "".join(f"n{number}\n" for number in range(5000)) + "!n7\n*.log\nb\n"
    rules = Rules(text, "")
    assert rules.find("c", "c", False) is None and rules.memory < 100_000, "searched only"
    found = rules.find("a/n9", "n9", False)
    assert found is not None and (found.line, found.number, found.ignores) == ("n9", 10, True)
    assert rules.memory > 500_000 and len(rules) == 5003
    again = Rules(text, "").find("n7", "n7", False)
    assert again is not None and (again.line, again.number, again.ignores) == ("!n7", 5001, False)


def test_a_pattern_is_compiled_when_an_entry_has_its_literal_parts_and_all_when_many_do() -> None:
    compiled: list[int] = []

    def compile_all(expressions: Sequence[bytes]) -> Match:
        compiled.append(len(expressions))
        return compile_set(expressions)

    rules = Rules([f"a{number}?b*c" for number in range(200)], "", compile_all=compile_all)
    assert rules.find("q", "q", False) is None and rules.find("a7_b", "a7_b", False) is None and not compiled
    assert rules.find("a7_b_c", "a7_b_c", False) is not None and compiled == [1]
    assert rules.find("a7_b_c", "a7_b_c", False) is not None and compiled == [1]
    for number in range(120):
        assert rules.find(f"a{number}xbc", f"a{number}xbc", False) is not None
    assert compiled[-1] == 200 and rules.find("a7b_c", "a7b_c", False) is None


def test_a_slow_pattern_of_the_configuration_is_named_too(root: Path) -> None:
    make(root, "slow.txt")
    slow = Slow({b"slow": 9.0})
    reason = look(root, slow.ignore(root, exclude=["slow*[!t]"]))[1]["."].reason
    assert "slow*[!t]" in reason and "configuration" in reason


def test_the_watcher_hands_a_slow_directory_to_the_walk(root: Path) -> None:
    make(root, *(f"sub/slow{number}.txt" for number in range(10)), "other/a.txt")
    (root / "sub/.gitignore").write_text("slow*[!t]\n")
    slow = Slow({b"slow": 1.0})
    found = relevant([str(root / f"sub/slow{number}.txt") for number in range(10)], slow.ignore(root))
    assert str(root / "sub") in found and slow.now <= 2


def test_the_clock_of_the_walk_counts_the_cpu_time_of_its_thread(root: Path) -> None:
    assert Ignore(str(root)).clock is time.thread_time


# Names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\nb.log", "\U0001f600.log", os.fsdecode(b"\xff\xfe.log"), "a\\b.log", " .log"])
def test_odd_names_are_matched_by_wildcards(root: Path, name: str) -> None:
    for pattern in ("*.log", "*[.]lo?", "sub/*.log", "**/sub/*.l*g", "[!q]*.log"):
        rules = Rules([pattern], "")
        assert rules.find(f"sub/{name}", name, False) is not None, pattern
        assert rules.find(f"sub/{name}x", f"{name}x", False) is None, pattern


def test_names_match_without_letter_case_where_the_system_ignores_it() -> None:
    rules = Rules(["*.LOG", "Build/", "[A-C]x?", "É*x?", "/Docs/Old", "**/Tmp*/[[:upper:]]q"], "", ignore_case=True)
    for path, is_dir in (
        ("a.Log", False), ("BUILD", True), ("bX1", False), ("éAX1", False), ("docs/OLD", False), ("a/tMP1/zQ", False),
    ):  # fmt: skip
        assert rules.find(path, path.rpartition("/")[2], is_dir) is not None, path
    assert rules.find("build", "build", False) is None


def test_re2_is_imported_when_a_pattern_needs_it_and_not_before(root: Path) -> None:
    make(root, "a.txt")
    (root / ".gitignore").write_text("a*b*c\n")
    code = (
        "import sys; from indexer.files.ignore import Ignore; from indexer.files.walk import walk\n"
        "ignore = Ignore(sys.argv[1]); print('re2' in sys.modules)\n"
        "list(walk(sys.argv[1], ignore)); print('re2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, root], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_rules_whose_matchers_were_given_up_match_as_before(root: Path) -> None:
    for number in range(6):  # more wildcard patterns than stay compiled
        make(root, f"d{number}/a1x.txt", f"d{number}/b.txt")
        (root / f"d{number}/.gitignore").write_text("".join(f"a?{n}*x\n" for n in range(2500)) + "a*1?.txt\n")
    ignore = Ignore(str(root))
    for _ in range(2):
        assert look(root, ignore)[0] == {f"d{number}/b.txt" for number in range(6)}
