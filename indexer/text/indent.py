"""Python's definitions by indentation, for source that does not parse: a file saved in the middle of an edit.

A grammar that meets an open bracket may lose every class after it, and with it the heading of every method; what a
line begins with does not depend on the lines before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_DEFINITION = re.compile(r"([ \t]*)(?:async[ \t]+)?(class|def)[ \t]+(\w+)")
_LEAD = re.compile(r"[ \t]*[@#]")
_QUOTES = re.compile(r"\"\"\"|'''")


def indented_marks(text: str, joint: str) -> Iterator[tuple[int, str]]:
    """Offset and path of each place where a stretch begins: a class, an outermost function, the end of either."""
    stack: list[tuple[int, str, str]] = []
    at, lead, quote = 0, -1, ""
    for line in text.splitlines(keepends=True):
        start, at = at, at + len(line)
        inside = bool(quote)
        for mark in _QUOTES.findall(line):
            quote = mark if not quote else "" if mark == quote else quote
        if inside or not line.strip():
            continue
        if _LEAD.match(line):
            lead = start if lead < 0 else lead
            continue
        begin, lead = (start if lead < 0 else lead), -1
        depth = len(line) - len(line.lstrip())
        ended = False
        while stack and stack[-1][0] >= depth and not line.lstrip().startswith((")", "]", "}")):
            stack.pop()
            ended = True
        match = _DEFINITION.match(line)
        if match and not any(kind == "def" for _, kind, _ in stack):
            stack.append((depth, match[2], match[3]))
            yield begin, joint.join(name for _, _, name in stack)
        elif ended and not any(kind == "def" for _, kind, _ in stack):
            yield begin, joint.join(name for _, _, name in stack)
