"""The machine as clients see it: platform, home, environment, commands. Passed in, so that tests have all three."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """Where to look.

    Attributes:
        platform: As ``sys.platform``: ``linux``, ``darwin``, ``win32``.
        home: The user's home directory.
        environ: The environment.
        which: Finds a command on the path.
        applications: Where a Mac keeps its applications.
    """

    platform: str
    home: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    which: Callable[[str], str | None] = shutil.which
    applications: tuple[Path, ...] = ()

    @property
    def roaming(self) -> Path:
        """Where desktop programs keep their settings: Electron's ``appData``."""
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        if self.platform == "win32":
            return self.named("APPDATA") or self.home / "AppData" / "Roaming"
        return self.xdg

    @property
    def local(self) -> Path:
        """Windows' directory for what does not roam."""
        return self.named("LOCALAPPDATA") or self.home / "AppData" / "Local"

    @property
    def xdg(self) -> Path:
        """``$XDG_CONFIG_HOME``, or ``~/.config``. A relative value does not count, says the XDG specification."""
        return self.named("XDG_CONFIG_HOME") or self.home / ".config"

    def named(self, variable: str) -> Path | None:
        """Return the absolute directory or file a variable of the environment names."""
        value = self.environ.get(variable, "").strip()
        return Path(value) if value and Path(value).is_absolute() else None


def this_machine(environ: Mapping[str, str]) -> Machine:
    """Return this machine.

    Args:
        environ: The environment, which also says where home is.
    """
    home = Path(environ.get("USERPROFILE" if sys.platform == "win32" else "HOME") or Path.home())
    applications = (Path("/Applications"), home / "Applications") if sys.platform == "darwin" else ()
    path = environ.get("PATH")
    return Machine(sys.platform, home, environ, lambda name: shutil.which(name, path=path), applications)
