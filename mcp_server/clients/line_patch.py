"""Applies the change that a TOML or YAML library made to the original text, so that no other line changes.

A round trip through a library keeps values and comments, but not always indentation, blanks in brackets or line
endings. The difference between two of its renderings is the change alone; it is applied here like a patch.
"""

from __future__ import annotations

from difflib import SequenceMatcher

from mcp_server.clients.edit_json import line_ending
from mcp_server.clients.entry import ClientError

BY_HAND = (
    "the place of the entry is written in a way that this program cannot change without touching more; change it by "
    "hand (folder-mcp install CLIENT --print shows the entry)"
)


def patch(text: str, before: str, after: str) -> str:
    """Apply the difference between two renderings of a document to its text.

    Args:
        text: The document as it stands in the file.
        before: The document as the library writes it.
        after: The same with the change.

    Returns:
        The text with the changed lines, in its own line ending; it ends with one if ``text`` does.

    Raises:
        ClientError: The library writes the lines around the change in another way than the text has them.
    """
    end = "" if not text or text.endswith("\n") else line_ending(text)
    lines = (text + end).split("\n")
    old, new = before.split("\n"), after.split("\n")
    line_numbers = _line_numbers(old, lines)
    changes = [each for each in SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if each[0] != "equal"]
    for tag, i1, i2, j1, j2 in reversed(changes):
        if tag == "insert":
            i1 = i2 = i1 if i1 >= len(old) - 1 else _skip_trivia_upwards(old, i1)  # noqa: PLW2901
        begin, stop = _span(line_numbers, i1, i2)
        if tag != "insert":
            stop = _skip_trivia_upwards(lines, stop, begin)  # comments that follow belong to the next part
            if tag == "delete" and begin and not lines[begin - 1].strip() and not lines[stop].strip():
                begin -= 1  # one of the blank lines around a removed part goes with it
        lines[begin:stop] = [line + line_ending(text).removesuffix("\n") for line in new[j1:j2]]
    return "\n".join(lines).removesuffix(end)


def changed_span(text: str, other: str) -> tuple[str, str]:
    """Return the span of each text that differs, as if one had replaced the other; white space is ignored."""
    text, other = _without_whitespace(text), _without_whitespace(other)
    shorter = min(len(text), len(other))
    head = next((n for n in range(shorter) if text[n] != other[n]), shorter)
    tail = next((n for n in range(shorter - head) if text[-1 - n] != other[-1 - n]), shorter - head)
    return text[head : len(text) - tail], other[head : len(other) - tail]


def _line_numbers(old: list[str], lines: list[str]) -> dict[int, int]:
    """Map the lines of the library's rendering to those of the text.

    Lines are the same when they differ in white space only. Where the same number of other lines is between two such
    lines, these are the same in another spelling.
    """
    squeezed = list(map(_without_whitespace, old)), list(map(_without_whitespace, lines))
    changes = SequenceMatcher(None, *squeezed, autojunk=False).get_opcodes()
    return {i1 + n: j1 + n for _, i1, i2, j1, j2 in changes if i2 - i1 == j2 - j1 for n in range(i2 - i1)}


def _span(line_numbers: dict[int, int], i1: int, i2: int) -> tuple[int, int]:
    """Return begin and end in the text of the rendering's lines i1 to i2; of none, the end of the line before."""
    if i1 == i2 == 0:
        return 0, 0
    found = [line_numbers.get(each, -1) for each in (range(i1, i2) if i2 > i1 else (i1 - 1,))]
    if -1 in found or found[-1] - found[0] != len(found) - 1:
        raise ClientError(BY_HAND)
    return (found[0], found[-1] + 1) if i2 > i1 else (found[0] + 1, found[0] + 1)


def _skip_trivia_upwards(lines: list[str], at: int, first: int = 0) -> int:
    """Return the line after the last one above ``at`` that is neither blank nor a comment."""
    while at > first and not lines[at - 1].strip().partition("#")[0]:
        at -= 1
    return at


def _without_whitespace(text: str) -> str:
    return "".join(text.split())
