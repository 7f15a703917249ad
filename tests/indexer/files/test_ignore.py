import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from indexer.files.ignore import EXCLUDES, HIDDEN, SECRETS, Ignore
from indexer.files.patterns import Rules
from indexer.files.walk import Skipped, global_excludes, walk

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed: nothing to compare with")


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


def ignored(root: Path, name: str, **rules: object) -> bool:
    return Ignore(str(root), **rules).verdict(str(root / name)).ignored  # type: ignore[arg-type]


def walked(root: Path, **rules: object) -> set[str]:
    found = walk(str(root), Ignore(str(root), **rules))  # type: ignore[arg-type]
    return {os.path.relpath(each.path, root) for each in found if not isinstance(each, Skipped)}


def git(root: Path, *arguments: str, data: bytes | None = None) -> bytes:
    environ = {"HOME": str(root), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-c", "core.excludesFile=", *arguments]
    done = subprocess.run(command, cwd=root, env=environ, input=data, capture_output=True, check=False, timeout=60)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def kept_by_git(root: Path) -> set[str]:
    """Files that git would add: untracked and not ignored, ignore files themselves left out."""
    names = git(root, "ls-files", "--others", "--exclude-standard", "-z").split(b"\0")
    return {os.fsdecode(name) for name in names if name and not os.path.basename(name).startswith(b".")}


PATTERNS = [
    "*.log", "!keep.log", "/top", "build/", "!build/", "sub/*", "!sub/a.txt", "**/deep", "a/**/b", "doc?.txt",
    "[ab].md", "[!a].md", "sub/", "*", "!*/", "!*.md", "\\!bang", "\\#hash", "# comment", "", "trailing   ",
    "space\\ ", "x/**", "/**/y", "**", "a/", "/a/b", "a*b", "[", "foo\\", "!", "/", "//", "*.t[x-z]t",
    "[[:digit:]]*", "a//b", "**/", "*/", "/*", "!/a", "!/a/", "b", "!b", "!a/b", "*.txt", "!doc1.txt", "[]x]",
    "[^a]", "a**b", "**a", "?", "deep/**/y",
]  # fmt: skip
NAMES = [
    "a", "b", "top", "build", "sub", "deep", "x", "y", "doc1.txt", "a.txt", "b.md", "a.md", "keep.log",
    "z.log", "!bang", "#hash", "trailing", "space ", "aXb", "9lives", "]", "é.txt", "foo\\", "[", "ab",
    "line\nbreak.log", "A.TXT",
]  # fmt: skip


def _grow(root: Path, random: random.Random, depth: int = 0) -> None:
    for name in random.sample(NAMES, 9):
        path = root / name
        if depth < 3 and random.random() < 0.4:
            path.mkdir()
            _grow(path, random, depth + 1)
        else:
            path.write_text("text")
    if depth == 0 or random.random() < 0.5:
        lines = random.sample(PATTERNS, random.randint(1, 6))
        ending = random.choice(["\n", "\r\n"])
        (root / ".gitignore").write_bytes(os.fsencode(ending.join(lines) + random.choice(["", ending])))


@pytest.mark.slow
@needs_git
@pytest.mark.parametrize("seed", range(24))
def test_a_random_tree_is_walked_as_git_would_add_it(root: Path, seed: int) -> None:
    random_ = random.Random(seed)
    _grow(root, random_)
    git(root, "init", "-q")
    (root / ".git/info").mkdir(exist_ok=True)
    (root / ".git/info/exclude").write_text(random_.choice(PATTERNS) + "\n")
    assert walked(root) == {name for name in kept_by_git(root) if not _builtin(name, is_dir=False)}


BUILTIN = (Rules(EXCLUDES, "", ignore_case=False), Rules(SECRETS, "", ignore_case=True), Rules(HIDDEN, ""))


def _builtin(path: str, is_dir: bool) -> bool:
    """Whether our own lists leave out a path, itself or with a directory above it."""
    parts = path.split("/")
    return any(
        (rule := rules.find(name, name, is_dir or number < len(parts))) is not None and rule.ignores
        for number, name in enumerate(parts, 1)
        for rules in BUILTIN
    )


@pytest.mark.slow
@needs_git
@pytest.mark.parametrize("seed", range(100, 110))
def test_one_path_is_judged_as_git_check_ignore_judges_it(root: Path, seed: int) -> None:
    _grow(root, random.Random(seed))
    git(root, "init", "-q")
    paths = [
        os.path.relpath(os.path.join(directory, name), root)
        for directory, directories, files in os.walk(root)
        if ".git" not in directory.split("/")
        for name in (*directories, *files)
        if not name.startswith(".")
    ]
    told = git(root, "check-ignore", "--no-index", "-z", "--stdin", data=b"\0".join(os.fsencode(p) for p in paths))
    expected = {os.fsdecode(name) for name in told.split(b"\0") if name}
    ignore = Ignore(str(root))
    judged = {path for path in paths if not _builtin(path, is_dir=(root / path).is_dir())}
    assert {path for path in judged if ignore.verdict(str(root / path)).ignored} == expected & judged


@pytest.mark.parametrize("seed", range(200, 206))
def test_walk_and_single_path_agree(root: Path, seed: int) -> None:
    _grow(root, random.Random(seed))
    ignore = Ignore(str(root))
    by_walk = walked(root)
    for directory, _, files in os.walk(root):
        for name in files:
            path = os.path.join(directory, name)
            assert ignore.verdict(path).ignored == (os.path.relpath(path, root) not in by_walk), path


def test_a_deeper_file_overrides_a_higher_one(root: Path) -> None:
    make(root, "a.log", "sub/a.log", "sub/b.log")
    (root / ".gitignore").write_text("*.log\n")
    (root / "sub/.gitignore").write_text("!a.log\n")
    assert walked(root) == {"sub/a.log"}


def test_nothing_below_an_excluded_directory_comes_back(root: Path) -> None:
    make(root, "out/a.txt", "out/sub/b.txt")
    (root / ".gitignore").write_text("out/\n!out/a.txt\n")
    (root / "out/.gitignore").write_text("!*\n")
    assert walked(root) == set()
    assert ignored(root, "out/a.txt") and ignored(root, "out/sub/b.txt")


@pytest.mark.parametrize(
    "name",
    [
        "node_modules/x.js", ".git/config", ".git", "a/__pycache__/x.py", "build/x.txt", ".venv/x.py", "Thumbs.db",
        "~$report.docx", "a/b.pyc", "pkg.egg-info/PKG-INFO", "#draft.md#", ".hidden", ".config/notes.txt", "x.swp",
    ],
)  # fmt: skip
def test_machine_made_and_hidden_files_are_left_out(root: Path, name: str) -> None:
    assert ignored(root, name)


@pytest.mark.parametrize(
    "name",
    ["a.txt", ".github/workflows/ci.yml", "builder/x.txt", "Build.md", "environment.txt", "keys.md", "target.txt"],
)
def test_ordinary_files_are_not(root: Path, name: str) -> None:
    make(root, name)
    assert walked(root) == {name}


@pytest.mark.parametrize(
    "name",
    [
        ".env", "a/.env", ".env.local", "prod.env", "server.pem", "SERVER.PEM", "x.key", "id_rsa",
        "id_rsa.pub", "id_ed25519", "ID_RSA", ".netrc", ".npmrc", "credentials", "credentials.json",
        "client_secret_1.json", "secrets.yaml", "passwords.kdbx", "terraform.tfstate.backup", ".ssh/config",
        ".aws/config", "Login Data", "Cookies", "x.ovpn",
    ],
)  # fmt: skip
def test_a_secret_by_name_is_left_out_with_a_reason(root: Path, name: str) -> None:
    make(root, name)
    verdict = Ignore(str(root), hidden=True).verdict(str(root / name))
    assert verdict.secret
    assert "secret" in verdict.reason and "include" in verdict.reason
    skipped = list(walk(str(root), Ignore(str(root))))
    assert [each.kind for each in skipped if isinstance(each, Skipped)] == ["secret"]


@pytest.mark.parametrize("name", [".env.example", ".env.sample", ".env.template", "environment.md", "keynote.txt"])
def test_samples_are_no_secrets(root: Path, name: str) -> None:
    make(root, name)
    assert walked(root, hidden=True) == {name}


def test_a_secret_comes_back_by_configuration_or_own_ignore_file_but_not_by_gitignore(root: Path) -> None:
    make(root, ".env", "sub/x.pem")
    (root / ".gitignore").write_text("!.env\n!*.pem\n")
    assert walked(root) == set()
    assert walked(root, include=[".env"]) == {".env"}
    (root / "sub/.folder-mcpignore").write_text("!x.pem\n")
    assert walked(root) == {"sub/x.pem"}


def test_configuration_excludes_and_includes_win_over_all_files(root: Path) -> None:
    make(root, "a.log", "b.log", "build/x.txt", "notes/n.txt", ".hidden/h.txt")
    (root / ".folder-mcpignore").write_text("a.log\n!notes/\n")
    rules = {"exclude": ["notes/", "b.log"], "include": ["*.log", "build/", ".hidden/"]}
    assert walked(root, **rules) == {"a.log", "b.log", "build/x.txt", ".hidden/h.txt"}


def test_own_ignore_file_wins_over_gitignore(root: Path) -> None:
    make(root, "a.txt", "b.txt", "sub/c.txt")
    (root / ".gitignore").write_text("a.txt\n")
    (root / ".folder-mcpignore").write_text("!a.txt\nb.txt\n")
    (root / "sub/.gitignore").write_text("!b.txt\n")
    assert walked(root) == {"a.txt", "sub/c.txt"}


def test_hidden_files_are_indexed_when_asked_but_not_the_built_in_excludes(root: Path) -> None:
    make(root, ".notes", ".git/x", ".cache/x", ".vimrc")
    assert walked(root, hidden=True) == {".notes", ".vimrc"}


def test_the_data_directory_is_never_entered(root: Path) -> None:
    make(root, "data/index.txt", "a.txt")
    rules = {"never": [str(root / "data")], "include": ["data/"]}
    assert walked(root, **rules) == {"a.txt"}
    assert ignored(root, "data/index.txt", **rules)


def test_the_data_directory_is_known_by_any_spelling(root: Path, tmp_path: Path) -> None:
    make(root, "data/index.txt", "a.txt")
    (tmp_path / "link").symlink_to(root)
    assert walked(root, never=[str(tmp_path / "link" / "data")]) == {"a.txt"}


def test_rules_of_the_repository_around_a_root_apply_unless_they_leave_out_the_root(root: Path) -> None:
    (root / ".git").mkdir()
    (root / ".gitignore").write_text("*.log\ngenerated/\n/docs/drafts/\n")
    docs, generated = root / "docs", root / "generated"
    make(docs, "a.txt", "a.log", "drafts/b.txt")
    make(generated, "a.txt", "a.log")
    assert walked(docs) == {"a.txt"}
    assert walked(generated) == {"a.txt", "a.log"}


def test_ignore_files_outside_a_repository_above_the_root_do_not_apply(root: Path) -> None:
    (root / ".gitignore").write_text("*.txt\n")
    make(root / "docs", "a.txt")
    assert walked(root / "docs") == {"a.txt"}


def test_an_edited_ignore_file_counts_at_once(root: Path) -> None:
    make(root, "a.txt")
    ignore = Ignore(str(root))
    assert not ignore.verdict(str(root / "a.txt")).ignored
    (root / ".gitignore").write_text("*.txt\n")
    assert ignore.verdict(str(root / "a.txt")).ignored
    (root / ".gitignore").write_text("*.md, really\n")
    assert not ignore.verdict(str(root / "a.txt")).ignored
    (root / ".gitignore").unlink()
    assert not ignore.verdict(str(root / "a.txt")).ignored


def test_paths_outside_the_root_are_left_out(root: Path) -> None:
    assert Ignore(str(root)).verdict(str(root) + "-sibling/a.txt").ignored
    assert Ignore(str(root)).verdict("/etc/passwd").ignored
    assert not Ignore(str(root)).verdict(str(root)).ignored


def test_the_reason_names_pattern_and_file(root: Path) -> None:
    (root / ".gitignore").write_text("*.log\n")
    reason = Ignore(str(root)).verdict(str(root / "a.log")).reason
    assert '"*.log"' in reason and str(root / ".gitignore") in reason


def test_a_global_excludes_file_is_the_weakest(root: Path, tmp_path: Path) -> None:
    make(root, "a.bak", "b.bak")
    file = tmp_path / "ignore"
    file.write_text("*.bak\n")
    (root / ".gitignore").write_text("!b.bak\n")
    assert walked(root, global_excludes=str(file)) == {"b.bak"}


def test_the_global_excludes_file_is_found_where_git_looks(tmp_path: Path) -> None:
    home = str(tmp_path)
    assert global_excludes(home) is None
    (tmp_path / ".config/git").mkdir(parents=True)
    (tmp_path / ".config/git/ignore").write_text("")
    assert global_excludes(home) == f"{home}/.config/git/ignore"
    (tmp_path / "mine").write_text("")
    (tmp_path / ".gitconfig").write_text('[user]\n\texcludesfile = /no\n[core]\n\tExcludesFile = "~/mine" # x\n')
    assert global_excludes(home) == f"{home}/mine"


def test_an_ignore_file_in_bytes_that_are_not_utf8_matches_such_names(root: Path) -> None:
    name = os.fsdecode(b"b\xff.txt")
    try:
        (root / name).write_text("text")
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")
    make(root, "a.txt")
    (root / ".gitignore").write_bytes(b"\xef\xbb\xbfb\xff.txt\n")
    assert walked(root) == {"a.txt"}


def test_a_pipe_or_a_link_as_ignore_file_is_no_ignore_file(root: Path) -> None:
    make(root, "a.txt")
    os.mkfifo(root / ".gitignore")
    (root / "rules").write_text("*\n")
    (root / ".folder-mcpignore").symlink_to(root / "rules")
    assert "a.txt" in walked(root)


def test_names_that_end_in_a_newline_do_not_slip_through(root: Path) -> None:
    make(root, "a.pem\n", "dir\n/x.pem")
    (root / ".gitignore").write_text("/dir?/\n")
    assert walked(root) == {"a.pem\n"}
