"""Which secrets a user allows to be shown: files and patterns of the configuration. Also the secrets of paths."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from indexer.files.patterns import Rules
from indexer.text.secrets import SECRETS, Allowed, Secret, blank, find_secrets

_AS_CODE = "python"
"""In a path nothing is assigned, so that a name like ``token=1`` is none."""


@dataclass(frozen=True, slots=True)
class SecretPolicy:
    """What ``[secrets]`` of the configuration allows.

    Attributes:
        patterns: RE2 patterns; a secret that one of them matches whole is not blanked.
        files: Patterns in gitignore syntax, relative to each folder; nothing is blanked in the files they match.
    """

    patterns: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def shown_in(self, folder: str, path: str) -> Allowed:
        """Which secrets of a file are shown, as ``secrets.Allowed``."""
        return None if self.files and _matches(self.files, os.path.relpath(path, folder)) else self.patterns

    def in_path(self, folder: str, path: str) -> tuple[Secret, ...]:
        """The secrets in the path of a file below its folder that are not shown."""
        below = path[len(folder.rstrip(os.sep)) + 1 :]
        return find_secrets(path_as_text(below), self.shown_in(folder, path), syntax=_AS_CODE)

    @property
    def stamp(self) -> str:
        """Version of the rules and of what is allowed: a file that was read under another one is read again."""
        if not self.patterns and not self.files:
            return SECRETS
        settings = json.dumps([self.patterns, self.files]).encode()
        return f"{SECRETS}+{hashlib.sha256(settings).hexdigest()[:12]}"


def path_as_text(path: str) -> str:
    """A path, or several, with a line for each part: what a directory is called says nothing of the names in it."""
    return path.replace(os.sep, "\n")


def may_hold_secrets(paths: Sequence[str]) -> bool:
    """Whether one of many paths holds a secret, allowed or not: a fifth of the time of asking for each."""
    return bool(find_secrets(path_as_text("\n".join(paths)), syntax=_AS_CODE))


def blank_path(path: str) -> str:
    """A path with the secrets of its parts blanked, allowed or not."""
    return os.sep.join(blank(part, syntax=_AS_CODE).text for part in path.split(os.sep))


BLANK_ALL = SecretPolicy()
"""Nothing is allowed."""


@lru_cache(maxsize=8)
def _rules(patterns: tuple[str, ...]) -> Rules:
    return Rules(patterns, "allow_files of [secrets]")


@lru_cache(maxsize=4096)
def _matches(patterns: tuple[str, ...], relative: str) -> bool:
    """Whether the patterns name a file, or a directory above it."""
    parts = relative.split(os.sep)
    rules = _rules(patterns)
    for count in range(1, len(parts) + 1):
        rule = rules.find("/".join(parts[:count]), parts[count - 1], count < len(parts))
        if rule is not None and rule.ignores:
            return True
    return False
