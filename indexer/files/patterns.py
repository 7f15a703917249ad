"""One list of gitignore patterns, matched with one file or directory at a time, in time linear in its path.

A pattern means what git makes of it, byte for byte (``tests/indexer/files/test_git_oracle.py``). Precedence is decided
here: the last pattern that matches an entry counts, and a directory is matched apart from what is below it, because a
walk matches every directory before it enters it.

Most patterns are a name, a path, a beginning or an end: those are found by lookup, whatever their number. All others
are translated to regular expressions of RE2, which has no backtracking, and matched together in few calls.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

IGNORE_CASE = sys.platform in ("darwin", "win32")
"""Whether patterns of ignore files match without letter case, as git does on these systems (core.ignorecase)."""

MAX_PATTERN = 4096
"""Longest pattern, bytes: no path that the system opens is longer (PATH_MAX of Linux)."""

MAX_WILDCARDS = 5000
"""Most patterns of one file that need a regular expression: what its matchers fill at most is 80 MiB of memory."""

_FEW = 12  # wildcard patterns whose literal parts are sought faster one by one than RE2 is called
_MAX_NAME = 255  # bytes of a name on every usual file system: a longer literal matches none
_SET_PATTERNS = 250  # of one RE2 set
_SET_BYTES = 16 << 10  # of the expressions of one set
_SET_MEMORY = 4 << 20  # of the states of one set, bytes; RE2 drops states beyond it and makes them anew

Match = Callable[[bytes], Sequence[int]]
"""The numbers of the expressions that match some bytes as a whole."""

Compile = Callable[[Sequence[bytes]], Match]
"""Compiles expressions into one matcher; ValueError when they are too large for it."""


class Rule(NamedTuple):
    """One pattern: as written, the number of its line from 1, and False in ``ignores`` for ``!pattern``."""

    line: str
    number: int
    ignores: bool


class Cost(NamedTuple):
    """What one pattern took to match, CPU seconds; ``rule`` is None when no pattern is worth naming."""

    seconds: float
    rule: Rule | None


class Rules:
    """Patterns of one ignore file or list; the last match decides.

    Args:
        lines: Patterns, comments, blanks.
        source: A file or the name of a list, for the reason of a verdict.
        ignore_case: Match without letter case.
        compile_all: Compiles the expressions of wildcard patterns.

    Attributes:
        source: As given.
        refused: Why single patterns do not count, a sentence each that names the line; the others hold.
        excess: Why the list cannot be used at all, empty if it can.
        size: Characters of all its patterns, with their lines' ends.
        wildcards: How many of its patterns need a regular expression.
    """

    __slots__ = (
        "_any",
        "_compile",
        "_directory_only",
        "_dirs",
        "_expressions",
        "_fold",
        "_ignores",
        "_in_path",
        "_lines",
        "_matchers",
        "_needs",
        "_numbers",
        "_spelled_out",
        "_wild",
        "excess",
        "refused",
        "size",
        "source",
        "wildcards",
    )  # fmt: skip

    def __init__(
        self,
        lines: Iterable[str],
        source: str,
        *,
        ignore_case: bool = IGNORE_CASE,
        compile_all: Compile | None = None,
    ) -> None:
        self.source = source
        self.refused: tuple[str, ...] = ()
        self.excess = ""
        self.size = 0
        self._fold = ignore_case
        self._compile = compile_all or compile_set
        self._lines: list[str] = []
        self._numbers = array("L")
        self._ignores = bytearray()
        self._any, self._dirs = _Lookup(), _Lookup()
        self._wild = array("L")  # positions in _lines of the wildcard patterns; the lists below go with it
        self._expressions: list[bytes] = []
        self._needs: list[str] = []
        self._spelled_out = 0
        self._in_path = bytearray()
        self._directory_only = bytearray()
        self._matchers: tuple[list[_Matcher], list[_Matcher]] | None = None
        names, fold, plain = self._any.names, ignore_case, _PLAIN.fullmatch  # this runs for a hundred thousand lines
        kept, numbers, ignores = self._lines, self._numbers, self._ignores
        for number, line in enumerate(lines, 1):
            if not line or line[0] == "#":
                continue
            if plain(line):
                names[line.lower() if fold else line] = len(kept)
                kept.append(line)
                numbers.append(number)
                ignores.append(True)
            else:
                self._add(line, number)
                if self.excess:
                    break
        self.size = sum(map(len, kept)) + len(kept)
        self.wildcards = len(self._wild)

    def __len__(self) -> int:
        return len(self._lines)

    def find(self, path: str, name: str, is_dir: bool) -> Rule | None:
        """The last rule that matches one entry itself (not what is below it), or None.

        Args:
            path: Relative to the directory of the list, parts joined by ``/``.
            name: Its last part.
            is_dir: Whether it is a directory.
        """
        if self._fold:
            path, name = path.lower(), name.lower()
        best = self._any.last(path, name)
        if is_dir and (found := self._dirs.last(path, name)) > best:
            best = found
        if self._wild and self._wild[-1] > best:
            best = max(best, self._last_wildcard(path, name, is_dir, best))
        return self._rule(best) if best >= 0 else None

    def costliest(self, path: str, name: str, clock: Callable[[], float]) -> Cost:
        """Which pattern takes longest to match one entry: to name it, once an ignore file has proved slow.

        Args:
            path: As in ``find``.
            name: As in ``find``.
            clock: Seconds.
        """
        if self._fold:
            path, name = path.lower(), name.lower()
        subjects = encoded(name), encoded(path)
        worst = Cost(0.0, None)
        for position, expression, in_path in zip(self._wild, self._expressions, self._in_path, strict=True):
            match = self._compile([expression])
            began = clock()
            match(subjects[in_path])
            seconds = clock() - began
            if seconds > worst.seconds:
                worst = Cost(seconds, self._rule(position))
        return worst

    def release(self) -> None:
        """Free the memory of the matchers; they are compiled again when they are needed."""
        self._matchers = None

    def _rule(self, position: int) -> Rule:
        return Rule(self._lines[position], self._numbers[position], bool(self._ignores[position]))

    def _keep(self, line: str, number: int, *, ignores: bool) -> None:
        self._lines.append(line)
        self._numbers.append(number)
        self._ignores.append(ignores)

    def _add(self, line: str, number: int) -> None:
        """Add a pattern that is more than a plain name."""
        pattern = parsed(line)
        if pattern is None:
            return
        if len(pattern.text) > MAX_PATTERN:
            self._refuse(number, f"is longer than {MAX_PATTERN:,} characters")
            return
        lookup = self._dirs if pattern.directory_only else self._any
        position = len(self._lines)
        text = pattern.text.lower() if self._fold else pattern.text
        texts = spelled_out(text) if self._spelled_out < _MAX_SPELLED_OUT else [text]
        if all(lookup.add(each, position, in_path=pattern.in_path) for each in texts):
            self._spelled_out += len(texts) - 1
            self._keep(line, number, ignores=pattern.ignores)
            return
        translation = translated(pattern, fold=self._fold)
        if translation is None:  # nothing matches it, as in git
            return
        expression, literal = translation
        if len(self._wild) == MAX_WILDCARDS:
            self.excess = f"{self.source!r} has more than {MAX_WILDCARDS:,} patterns with wildcards"
            return
        if len(expression) > _SET_BYTES:
            self._refuse(number, "is too large to be compiled")
            return
        self._wild.append(position)
        self._expressions.append(expression)
        self._needs.append(literal)
        self._in_path.append(pattern.in_path)
        self._directory_only.append(pattern.directory_only)
        self._keep(line, number, ignores=pattern.ignores)

    def _refuse(self, number: int, why: str) -> None:
        reason = f"the pattern in line {number} of {self.source!r} {why} and does not count; shorten it"
        if reason not in self.refused:  # compiled again, it is refused again
            self.refused += (reason,)

    def _last_wildcard(self, path: str, name: str, is_dir: bool, best: int) -> int:
        """The position of the last wildcard pattern that matches, if it is after ``best``."""
        both = self._matchers
        if both is None:
            both = self._matchers = self._grouped(in_path=False), self._grouped(in_path=True)
        for matchers, subject in zip(both, (name, path), strict=True):
            if not matchers or matchers[0].positions[-1] <= best:
                continue
            data = b""
            for matcher in matchers:
                if matcher.positions[-1] <= best:
                    break
                if matcher.needs and not _has_any(subject, matcher.needs):
                    continue
                data = data or encoded(subject)
                for hit in matcher.match(data) or ():
                    if matcher.positions[hit] > best and (is_dir or not matcher.directory_only[hit]):
                        best = matcher.positions[hit]
        return best

    def _grouped(self, *, in_path: bool) -> list[_Matcher]:
        """The wildcard patterns for names, or those for paths, in few matchers, the last patterns first."""
        groups: list[list[int]] = []
        size = 0
        for index, flag in enumerate(self._in_path):
            if bool(flag) is not in_path:
                continue
            size += len(self._expressions[index])
            if not groups or len(groups[-1]) == _SET_PATTERNS or size > _SET_BYTES:
                groups.append([])
                size = len(self._expressions[index])
            groups[-1].append(index)
        return [matcher for group in reversed(groups) for matcher in self._compiled(group)]

    def _compiled(self, group: list[int]) -> list[_Matcher]:
        """Matchers of some wildcard patterns, the last first: one, or more where one would be too large."""
        try:
            match = self._compile([self._expressions[index] for index in group])
        except ValueError:
            if len(group) == 1:
                self._refuse(self._numbers[self._wild[group[0]]], "is too large to be compiled")
                return []
            middle = len(group) // 2
            return [*self._compiled(group[middle:]), *self._compiled(group[:middle])]
        needs = {self._needs[index] for index in group} if len(group) <= _FEW else {""}
        return [
            _Matcher(
                match,
                [self._wild[index] for index in group],
                bytes(self._directory_only[index] for index in group),
                () if "" in needs else tuple(needs),
            )
        ]


class _Matcher(NamedTuple):
    """Wildcard patterns matched by one call.

    Attributes:
        match: Numbers of those that match, from 0.
        positions: Their positions in the list of rules, ascending.
        directory_only: 1 for those that match directories only.
        needs: What matches one of them has one of these texts in it; none if there are too many, or none is known.
    """

    match: Match
    positions: list[int]
    directory_only: bytes
    needs: tuple[str, ...]


class _Lookup:
    """Patterns that need no regular expression, by what they compare: each with its position in the list of rules.

    Attributes:
        names: A whole name.
        prefixes, suffixes: The beginning and the end of a name, up to and from its one star.
        paths: A whole path.
        tails: By number of parts, the last parts of a path (``**/a/b``).
    """

    __slots__ = (
        "_few_suffixes",
        "_prefix_lengths",
        "_suffix_lengths",
        "names",
        "paths",
        "prefixes",
        "suffixes",
        "tails",
    )

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.prefixes: dict[str, int] = {}
        self.suffixes: dict[str, int] = {}
        self.paths: dict[str, int] = {}
        self.tails: dict[int, dict[str, int]] = {}
        self._prefix_lengths: tuple[int, ...] = ()
        self._suffix_lengths: tuple[int, ...] = ()
        self._few_suffixes: tuple[str, ...] = ()

    def add(self, text: str, position: int, *, in_path: bool) -> bool:
        """Add a pattern if it is of a kind that can be looked up; returns whether it is."""
        if in_path:
            tail = text.removeprefix("**/")
            while tail.startswith("**/"):
                tail = tail[3:]
            if _SPECIAL.search(tail):
                return False
            if tail == text:
                self.paths[text] = position
            elif "/" not in tail:
                self.names[tail] = position
            else:
                self.tails.setdefault(tail.count("/") + 1, {})[tail] = position
            return True
        special = _SPECIAL.search(text)
        if special is None:
            self.names[text] = position
            return True
        at = special.start()
        if text[at] != "*" or not _is_text(text):
            return False
        rest = text[at:].lstrip("*")
        if (at and rest) or _SPECIAL.search(rest):
            return False
        if len(text) <= _MAX_NAME + 1:  # a longer one is longer than any name
            self._add_end(text[:at], rest, position)
        return True

    def _add_end(self, prefix: str, suffix: str, position: int) -> None:
        if suffix:
            self.suffixes[suffix] = position
            few = len(self.suffixes) <= 4 * _FEW
            self._few_suffixes = tuple(self.suffixes) if few else ()
            if len(suffix) not in self._suffix_lengths:
                self._suffix_lengths = (*self._suffix_lengths, len(suffix))
        else:
            self.prefixes[prefix] = position
            if len(prefix) not in self._prefix_lengths:
                self._prefix_lengths = (*self._prefix_lengths, len(prefix))

    def last(self, path: str, name: str) -> int:
        """The position of the last pattern that matches, -1 if none does."""
        best = self.names.get(name, -1)
        if self._suffix_lengths and (not self._few_suffixes or name.endswith(self._few_suffixes)):
            for length in self._suffix_lengths:
                if (found := self.suffixes.get(name[-length:], -1)) > best:
                    best = found
        for length in self._prefix_lengths:
            if (found := self.prefixes.get(name[:length], -1)) > best:
                best = found
        if self.paths and (found := self.paths.get(path, -1)) > best:
            best = found
        for parts, known in self.tails.items():
            split = path.rsplit("/", parts)
            tail = path if len(split) <= parts else path[len(split[0]) + 1 :]
            best = max(best, known.get(tail, -1))
        return best


# What a line means --------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[^\\*?\[!/ \0]{1,255}")
_SPECIAL = re.compile(r"[\\*?\[]")
_SMALL_CLASS = re.compile(r"\[([A-Za-z0-9]+)\]")
_MAX_CHOICES = 16  # of the classes of one pattern
_MAX_SPELLED_OUT = 10_000  # patterns that a file is spelled out into; then classes are for RE2


class Pattern(NamedTuple):
    """A line without what says how it applies.

    Attributes:
        text: To match: with a name, or with a path when ``in_path``.
        ignores: False for ``!pattern``.
        directory_only: It ended in a slash.
        in_path: It has a slash elsewhere.
    """

    text: str
    ignores: bool
    directory_only: bool
    in_path: bool


def parsed(line: str) -> Pattern | None:
    """What a line of an ignore file means, as ``dir.c`` of git reads it; None for a blank line."""
    text = _without_trailing_spaces(line.partition("\0")[0])
    ignores = not text.startswith("!")
    if not ignores:
        text = text[1:]
    directory_only = text.endswith("/")
    if directory_only:
        text = text[:-1]
    if not text:
        return None
    in_path = "/" in text
    return Pattern(text.removeprefix("/") if in_path else text, ignores, directory_only, in_path)


def spelled_out(text: str) -> list[str]:
    """A pattern with few small classes as the patterns that it stands for: ``[Bb]in``, ``*.py[cod]``."""
    pieces = _SMALL_CLASS.split(text)
    if len(pieces) == 1 or "\\" in text or math.prod(map(len, pieces[1::2])) > _MAX_CHOICES:
        return [text]
    return [
        "".join(each)
        for each in itertools.product(*([piece] if n % 2 == 0 else piece for n, piece in enumerate(pieces)))
    ]


def _without_trailing_spaces(line: str) -> str:
    """The line without the spaces at its end that no backslash escapes."""
    short = line.rstrip(" ")
    if short == line:
        return line
    backslashes = len(short) - len(short.rstrip("\\"))
    return line[: len(short) + 1] if backslashes % 2 else short


def _has_any(subject: str, texts: Sequence[str]) -> bool:
    for text in texts:  # a third of the time that any() takes, which counts here  # noqa: SIM110
        if text in subject:
            return True
    return False


def _is_text(text: str) -> bool:
    """Whether it came from valid UTF-8; else its end might be a part of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def encoded(text: str) -> bytes:
    """The bytes of a path or pattern."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:  # half a surrogate pair: no file has such a name
        return text.encode("utf-8", "replace")


# Translation --------------------------------------------------------------------------------------------------------
# After ``wildmatch.c`` of git, from bytes to bytes: "?" is one byte, and so is a class.

_STAR, _SLASH, _BACKSLASH, _QUESTION, _OPEN, _CLOSE = b"*/\\?[]"
_ALPHANUMERIC = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_SPECIAL_BYTES = b"*?[\\"
_TOKEN = re.compile(rb"[^*?\[\\]+|\\.?|.", re.DOTALL)
_USUAL_CLASS = 32  # bytes of a class whose translation is kept
_POSIX = {
    b"alnum": "[0-9A-Za-z]", b"alpha": "[A-Za-z]", b"blank": "[ \t]", b"cntrl": "[\0-\x1f\x7f]", b"digit": "[0-9]",
    b"graph": "[!-~]", b"lower": "[a-z]", b"print": "[ -~]", b"punct": "[!-/:-@\\[-`{-~]", b"space": "[\t\n\r ]",
    b"upper": "[A-Z]", b"xdigit": "[0-9A-Fa-f]",
}  # fmt: skip
_CLASSES = {
    name: frozenset(code for code in range(256) if re.match(expression, chr(code)))
    for name, expression in _POSIX.items()
}


def translated(pattern: Pattern, *, fold: bool = False) -> tuple[bytes, str] | None:
    """The regular expression that matches, as a whole, what the pattern matches; None if that is nothing.

    And the longest text that all it matches has in it, empty if there is none.

    Args:
        pattern: From ``parsed``.
        fold: The bytes to be matched are in lower case, and case does not matter.
    """
    text = encoded(pattern.text)
    out: list[bytes] = []
    literals = [b""]
    at, first_special = 0, -1
    while at < len(text):
        token = _TOKEN.match(text, at)
        assert token is not None, "every byte begins a token"
        byte = text[at]
        if byte not in _SPECIAL_BYTES or byte == _BACKSLASH:
            plain = token[0] if byte != _BACKSLASH else token[0][1:]
            if not plain:  # a backslash at the end
                return None
            literals[-1] += plain
            at = token.end()
        else:
            out.append(_escaped(literals[-1], fold=fold))
            literals.append(b"")
        if first_special < 0 and byte in _SPECIAL_BYTES:
            first_special = token.start()
        if byte == _STAR:
            # git compares what precedes the first wildcard apart, and then takes "**" for the beginning of a part
            expression, at = _stars(text, at, in_path=pattern.in_path, begins_part=at == first_special)
            out.append(expression)
        elif byte == _QUESTION:
            out.append(b"[^/]")
            at += 1
        elif byte == _OPEN:
            members, at = _class_at(text, at, fold=fold)
            if not members:
                return None
            out.append(members)
    needed = os.fsdecode(max(literals, key=len))
    needed = needed.lower() if fold else needed
    return b"".join((*out, _escaped(literals[-1], fold=fold))), needed if _is_text(needed) else ""


def _class_at(text: bytes, at: int, *, fold: bool) -> tuple[bytes, int]:
    """The expression of the class that begins at ``at``, empty if it is malformed; and where the pattern goes on."""
    expression, end = _class_expression(text[at : at + _USUAL_CLASS], fold=fold)
    if not expression and at + _USUAL_CLASS < len(text):  # its end may be farther away
        expression, end = _class_expression(text[at:], fold=fold)
    return expression, at + end


@lru_cache(maxsize=1024)
def _class_expression(text: bytes, *, fold: bool) -> tuple[bytes, int]:
    members, end = _class(text, 0, fold=fold)
    return (_members(members) if members else b""), end


def _stars(text: bytes, at: int, *, in_path: bool, begins_part: bool) -> tuple[bytes, int]:
    """The expression of the stars at ``at``, and where the pattern goes on."""
    end = at
    while end < len(text) and text[end] == _STAR:
        end += 1
    begins_part = begins_part or at == 0 or text[at - 1] == _SLASH
    if in_path and end - at > 1 and begins_part:
        if end == len(text) or text[end : end + 2] == b"\\/":
            return b".*", end
        if text[end] == _SLASH:
            return b"(?:.*/)?", end + 1
    return b"[^/]*", end


def _class(text: bytes, at: int, *, fold: bool) -> tuple[frozenset[int], int]:
    """The bytes of the class that begins at ``at``, none if it is malformed; and where the pattern goes on.

    With ``fold`` a lower-case letter stands for the capital too.
    """
    at += 1
    negated = text[at : at + 1] in (b"!", b"^")
    at += negated
    members: set[int] = set()
    previous = -1
    first = True
    while first or text[at : at + 1] != b"]":
        first = False
        if at >= len(text):
            return frozenset(), at
        byte = text[at]
        if byte == _BACKSLASH:
            at += 1
            if at >= len(text):
                return frozenset(), at
            previous = text[at]
            members.add(previous)
        elif byte == 0x2D and previous > 0 and at + 1 < len(text) and text[at + 1] != _CLOSE:
            at += 1 + (text[at + 1] == _BACKSLASH)
            if at >= len(text):
                return frozenset(), at
            members.update(range(previous, text[at] + 1))
            previous = 0
        elif byte == _OPEN and text[at + 1 : at + 2] == b":":
            end = text.find(b"]", at + 2)
            if end < 0:
                return frozenset(), at
            if end - at < 3 or text[end - 1] != 0x3A:  # no ":]": a "[" like any other character
                previous = byte
                members.add(byte)
            elif (named := _CLASSES.get(text[at + 2 : end - 1])) is None:
                return frozenset(), at
            else:
                members |= named
                at, previous = end, 0
        else:
            previous = byte
            members.add(byte)
        at += 1
    members |= {code + 32 for code in members if fold and 65 <= code <= 90}
    return frozenset(range(256)) - members if negated else frozenset(members), at + 1


def _members(members: frozenset[int]) -> bytes:
    """The expression of a class of bytes, never the slash."""
    out = bytearray(b"[")
    code = 0
    while code < 256:
        end = code
        while end < 256 and end in members and end != _SLASH:
            end += 1
        if end > code:
            out += b"\\x%02x-\\x%02x" % (code, end - 1)
        code = end + 1
    return bytes(out + b"]") if len(out) > 1 else b"[^\\x00-\\xff]"


def _escaped(text: bytes, *, fold: bool) -> bytes:
    data = encoded(os.fsdecode(text).lower()) if fold else text
    if not data or data.isalnum():
        return data
    return b"".join(b"%c" % byte if byte in _ALPHANUMERIC else b"\\x%02x" % byte for byte in data)


def compile_set(expressions: Sequence[bytes]) -> Match:
    """A matcher of RE2 for several expressions.

    The bytes stand for Latin-1 characters, so that each is one character of the expression, whatever its file name is
    encoded in. A set whose states do not fit into its memory is refused here, so that no match fails later.

    Raises:
        ValueError: They need more memory than a set may have.
    """
    import re2  # noqa: PLC0415  # 12 ms

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.dot_nl = True
    options.never_capture = True
    options.log_errors = False
    options.max_mem = _SET_MEMORY
    compiled = re2.Set.FullMatchSet(options)
    try:
        for expression in expressions:
            compiled.Add(expression)
        compiled.Compile()
    except re2.error as error:
        raise ValueError(str(error)) from error
    match: Match = compiled.Match
    return match
