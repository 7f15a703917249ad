"""Where the user's global git excludes file is."""

# Paths are str:

from __future__ import annotations

import os
import re

_SECTION = re.compile(r"\s*\[\s*([\w.-]+)")
_KEY = re.compile(r'\s*excludesfile\s*=\s*"?([^"#;\n]*?)"?\s*(?:[#;].*)?$', re.IGNORECASE)


def global_excludes(home: str = "~") -> str | None:
    """The excludes file that git would use, None if there is none.

    ``core.excludesFile`` of ``.gitconfig``, else of ``.config/git/config``, else ``.config/git/ignore``. Conditional
    and other includes of git's configuration are not followed.

    Args:
        home: The home directory.
    """
    home = os.path.expanduser(home)
    for config in (f"{home}/.gitconfig", f"{home}/.config/git/config"):
        named = _named(config)
        if named is not None:
            file = home + named[1:] if named.startswith("~/") else os.path.join(home, named)
            return file if os.path.isfile(file) else None
    default = f"{home}/.config/git/ignore"
    return default if os.path.isfile(default) else None


def _named(config: str) -> str | None:
    """What a git configuration file sets ``core.excludesFile`` to."""
    try:
        with open(config, encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.read(1 << 20).splitlines()
    except OSError:
        return None
    section, found = "", None
    for line in lines:
        if match := _SECTION.match(line):
            section = match[1].lower()
        elif section == "core" and (match := _KEY.match(line)):
            found = match[1].strip()
    return found or None
