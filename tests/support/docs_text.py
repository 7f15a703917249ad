"""The pages of the documentation, and what can be found in them: commands, links, headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "benchmarks" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    )
)
FENCE = re.compile(r"^(?P<marks>```+)(?P<kind>\w*)[^\n]*\n(?P<body>.*?)^(?P=marks)[ ]*$", re.M | re.S)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
SHELL = ("sh", "bash", "shell", "console")
PROGRAMS = (
    "folder-mcp",
    "python",
    "python3",
    "pytest",
    "pip",
    "pipx",
    "uv",
    "uvx",
    "npx",
    "npm",
    "mcp",
    "claude",
    "bash",
)


@dataclass(frozen=True, slots=True)
class Written:
    """A command as a page has it.

    Attributes:
        page: Path below the checkout.
        line: 1-based.
        words: Split as a shell does, without placeholder marks.
        block: Whether it stands in a shell block, to be copied whole.
    """

    page: str
    line: int
    words: tuple[str, ...]
    block: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {shlex.join(self.words)}"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def without_blocks(text: str) -> str:
    """The text with fenced blocks blanked, so that lines keep their numbers."""
    return FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)


def commands() -> Iterator[Written]:
    """Every command in shell blocks, and every inline one that begins with a program we know."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in FENCE.finditer(text):
            if block["kind"] in SHELL:
                yield from _of_block(name_of(page), text.count("\n", 0, block.start("body")) + 1, block["body"])
        bare = without_blocks(text)
        for found in INLINE.finditer(bare):
            code = " ".join(found[1].split())
            first = Path(code.split()[0]).name if code.split() else ""
            if first in PROGRAMS and " " in code:
                yield Written(name_of(page), bare.count("\n", 0, found.start()) + 1, _words(code), False)


def _of_block(page: str, first: int, body: str) -> Iterator[Written]:
    joined = body.replace("\\\n", " ")
    for number, line in enumerate(joined.splitlines(), first):
        for words in _simple(line.removeprefix("$ ")):
            yield Written(page, number, words, True)


def _simple(line: str) -> Iterator[tuple[str, ...]]:
    """The simple commands of a line: split where the shell does, comments and redirections left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("&|;"):
            while words and re.fullmatch(r"[A-Za-z_]+=.*", words[0]):  # variables of the command
                words = words[1:]
            if words:
                yield tuple(words)
            words = []
        else:
            words.append(word)


def _words(code: str) -> tuple[str, ...]:
    """Inline code as words: options that may be left out are taken, dots for "and so on" are not."""
    words = shlex.split(re.sub(r"[\[\]]", "", code.replace("...", "")))
    return tuple(words[: words.index(">")] if ">" in words else words)


def program_of(words: tuple[str, ...]) -> str:
    """The program a command starts, without its directory."""
    return Path(words[0]).name


def anchor(heading: str) -> str:
    """What a link to a heading says after ``#``, as GitHub makes it."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Everything in a page that a link can point to."""
    found: set[str] = set()
    counts: dict[str, int] = {}
    text = without_blocks(page.read_text(encoding="utf-8"))
    for heading in re.findall(r"^#{1,6} (.+)$", text, re.M):
        name = anchor(heading)
        again = counts.get(name, 0)
        counts[name] = again + 1
        found.add(f"{name}-{again}" if again else name)
    return found | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
