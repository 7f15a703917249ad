"""Which secrets a user allows to be shown: files and patterns of the configuration."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache

from indexer.files.patterns import Rules
from indexer.text.secrets import SECRETS, Allowed


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

    @property
    def stamp(self) -> str:
        """Version of the rules and of what is allowed: a file that was read under another one is read again."""
        if not self.patterns and not self.files:
            return SECRETS
        settings = json.dumps([self.patterns, self.files]).encode()
        return f"{SECRETS}+{hashlib.sha256(settings).hexdigest()[:12]}"


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
