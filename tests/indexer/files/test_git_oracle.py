"""What a pattern means is what git makes of it: generated patterns and trees, judged by both."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexer.files.patterns import Rules

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed: nothing to compare with")

# Bytes: patterns and names are bytes to git, and need not be UTF-8.
NAME = st.lists(
    st.sampled_from(
        [b"a", b"b", b"c", b"A", b"Z", b"_", b"1", "é".encode(), "ü".encode(), b"\xff", b"\xc3", b" ", b"-", b"]",
         b"[", b"!", b"#", b"*", b"?", b"\\", b".x", b"\n", b"\t", b"\r", b":", b"^", b"a" * 60]
    ),
    min_size=1,
    max_size=3,
).map(b"".join)  # fmt: skip
PATH = st.lists(NAME, min_size=1, max_size=4).map(b"/".join)
PIECE = st.sampled_from(
    [b"a", b"b", b"c", b"A", "é".encode(), b"\xff", b"\xc3", b"*", b"**", b"***", b"?", b"/", b"/", b"**/", b"/**",
     b"/**/", b"\\", b"!", b"#", b" ", b"\t", b"\\ ", b"-", b".", b"\r", b"\0", b"[a-c]", b"[!a]", b"[^b/]", b"[]a]",
     b"[!]a]", b"[a\\]]", b"[\\a-c]", b"[a-\\c]", b"[c-a]", b"[a-", b"[", b"]", b"[-a]", b"[a-]", b"[[:alpha:]]",
     b"[[:upper:]1]", b"[![:punct:]]", b"[[:space:]]", b"[[:cntrl:]]", b"[[:foo:]]", b"[[:a]", b"[[:", b"[:alpha:]",
     "[é]".encode(), b"[\x80-\xff]", b"[[:digit:]-z]", b"[/]", b"\\/", b"\\*", b"\\[", b"\\!", b"a" * 60]
)  # fmt: skip
LINE = st.builds(
    lambda start, pieces, end: start + b"".join(pieces) + end,
    st.sampled_from([b"", b"", b"!", b"/", b"!/", b"\\#", b"\\!", b"**/"]),
    st.lists(PIECE, max_size=5),
    st.sampled_from([b"", b"", b"/", b" ", b"\\ ", b"\r", b"  "]),
)


@pytest.fixture(scope="module")
def repository() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="oracle-") as made:
        root = Path(made).resolve()
        _git(root, "init", "-q")
        yield root


def _git(root: Path, *arguments: str, data: bytes = b"") -> bytes:
    environ = {"HOME": str(root), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-c", "core.excludesFile=", *arguments]
    done = subprocess.run(command, cwd=root, env=environ, input=data, capture_output=True, check=False, timeout=60)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def _plant(root: Path, paths: list[bytes]) -> list[bytes]:
    """Make files of some paths, as far as they fit together and the file system takes them; all paths that exist."""
    for entry in os.scandir(root):
        if entry.name != ".git":
            shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
    base = os.fsencode(root)
    for path in paths:
        try:
            os.makedirs(os.path.dirname(os.path.join(base, path)), exist_ok=True)
            os.close(os.open(os.path.join(base, path), os.O_CREAT | os.O_WRONLY))
        except OSError:  # one is a directory of the other, or the name is none here
            continue
    found = []
    for directory, directories, files in os.walk(base):
        directories[:] = [name for name in directories if name != b".git"]
        found += [os.path.relpath(os.path.join(directory, name), base) for name in (*directories, *files)]
    return found


def _by_git(root: Path, paths: list[bytes], *settings: str) -> dict[bytes, int]:
    """The line that decides each path, 0 for none."""
    options = ("check-ignore", "--no-index", "-z", "--stdin", "--verbose", "--non-matching")
    # "./", or git takes a colon for the beginning of what it calls pathspec magic
    fields = _git(root, *settings, *options, data=b"".join(b"./" + path + b"\0" for path in paths)).split(b"\0")
    return {fields[at + 3][2:]: int(fields[at + 1] or 0) for at in range(0, len(fields) - 3, 4)}


def _by_rules(root: Path, paths: list[bytes], text: bytes, *, ignore_case: bool = False) -> dict[bytes, int]:
    lines = [line.removesuffix("\r") for line in os.fsdecode(text).split("\n")]
    rules = Rules(lines, "", ignore_case=ignore_case)
    found = {path: _deciding_line(rules, os.fsdecode(path), root) for path in paths}
    # The same after a comment that makes the text long enough not to be indexed at once, and not asked for often.
    comment = "# long\n" * 5000
    for path in paths:
        of_text = Rules(comment + os.fsdecode(text), "", ignore_case=ignore_case)
        assert max(0, _deciding_line(of_text, os.fsdecode(path), root) - 5000) == found[path]
    return found


def _deciding_line(rules: Rules, path: str, root: Path) -> int:
    parts = path.split("/")
    rule = None
    for number in range(1, len(parts) + 1):
        here = "/".join(parts[:number])
        rule = rules.find(here, parts[number - 1], (root / here).is_dir())
        if rule is not None and rule.ignores:
            break
    return rule.number if rule else 0


@pytest.mark.slow
@given(lines=st.lists(LINE, min_size=1, max_size=6), paths=st.lists(PATH, min_size=3, max_size=12))
@example(lines=[b"a**/b"], paths=[b"ax/y/b", b"ab", b"a/b"])
@example(lines=[b"b/a**"], paths=[b"b/ax/y", b"b/a"])
@example(lines=[b"**\\/b", b"a/**/"], paths=[b"a/b", b"b", b"a/c/b"])
@example(lines=[b"?", b"[\xc3]", b"*\xa9"], paths=["é".encode(), "éa".encode(), b"\xa9"])
@example(lines=[b"a/*", b"!a/b", b"a/b/**", b"!a/b/c"], paths=[b"a/b/c/d", b"a/b/e", b"a/c"])
def test_the_line_that_decides_is_the_one_git_names(repository: Path, lines: list[bytes], paths: list[bytes]) -> None:
    found = _plant(repository, paths)
    text = b"\n".join(lines) + b"\n"
    (repository / ".gitignore").write_bytes(text)
    assert _by_rules(repository, found, text) == _by_git(repository, found)


LETTERS = st.lists(st.sampled_from([b"a", b"b", b"A", b"B", b"c", b"C", b"1", b"_"]), min_size=1, max_size=3)
CASED = st.lists(LETTERS.map(b"".join), min_size=1, max_size=3).map(b"/".join)
CASED_PIECE = st.sampled_from(
    [b"a", b"B", b"c", b"C", b"*", b"?", b"/", b"**/", b"[a-b]", b"[A-B]", b"[!A-B]", b"[[:upper:]]", b"[[:lower:]]"]
)


@pytest.mark.slow
@given(
    lines=st.lists(st.lists(CASED_PIECE, min_size=1, max_size=4).map(b"".join), min_size=1, max_size=5),
    paths=st.lists(CASED, min_size=3, max_size=10),
)
def test_without_letter_case_too(repository: Path, lines: list[bytes], paths: list[bytes]) -> None:
    found = _plant(repository, paths)
    text = b"\n".join(lines) + b"\n"
    (repository / ".gitignore").write_bytes(text)
    expected = _by_git(repository, found, "-c", "core.ignorecase=true")
    assert _by_rules(repository, found, text, ignore_case=True) == expected
