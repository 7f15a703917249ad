"""Which Python runs the parser processes, verified before it is started."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

# A child gets what its interpreter needs to start, and nothing else of what the server was given (tokens, proxies).
_KEPT = ("LD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP")


class NoInterpreter(Exception):
    """No Python to run parsers with; the message names every place looked at."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a parser process is started.

    Attributes:
        interpreter: Absolute path of the Python.
        command: The whole command line.
        environment: All the variables it gets.
        directory: Its working directory: the root of the file system, where no file can pose as a module.
    """

    interpreter: str
    command: tuple[str, ...]
    environment: dict[str, str]
    directory: str


WORKER = "indexer.text.worker"
"""The module of a process that parses."""


def launch(setting: str | None, memory_bytes: int, *, once: bool, module: str = WORKER) -> Launch:
    """Find interpreter and worker module and say how to start them.

    Args:
        setting: A Python to use instead of this one: a file, a virtual environment's directory, or a command name.
        memory_bytes: The worker's memory limit.
        once: End after one file.
        module: What to run: ``WORKER``, or a module that serves as it does and more.

    Raises:
        NoInterpreter: One of the two is not there; names the places looked at.
    """
    interpreter = find_interpreter(setting)
    root = Path(__file__).parent.parent.parent
    place = root.joinpath(*module.split(".")).with_suffix(".py")
    if not place.is_file():
        raise NoInterpreter(f"the parser module is missing: looked at {place}; reinstall folder-mcp")
    options = ("--memory", str(memory_bytes), *(("--once",) if once else ()))
    # -u: nothing waits in a buffer. -P: neither the working directory nor a script's is searched for modules.
    command = (interpreter, "-u", "-P", "-m", module, *options)
    environment = os.environ  # house: a child's environment is cut from this process's, name by name
    kept = {name: environment[name] for name in _KEPT if name in environment}
    fixed = {"PYTHONPATH": str(root), "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath}
    return Launch(interpreter, command, kept | fixed, Path(os.sep).absolute().anchor)


def find_interpreter(setting: str | None) -> str:
    """Absolute path of an executable Python.

    Raises:
        NoInterpreter: There is none at any of the places it names.
    """
    places = _places(setting)
    for place in places:
        if place.is_file() and os.access(place, os.X_OK):
            return str(place)
    looked = ", ".join(str(place) for place in places) or "no place (this Python does not know its own path)"
    remedy = "correct the interpreter setting (PYTHON_PATH)" if setting else "set the interpreter (PYTHON_PATH)"
    raise NoInterpreter(f"no Python to run parsers with: looked at {looked}; {remedy}")


def found_interpreter(setting: str | None) -> str:
    """``find_interpreter``, or empty when there is none."""
    try:
        return find_interpreter(setting)
    except NoInterpreter:
        return ""


def _places(setting: str | None) -> list[Path]:
    """Where the interpreter may be, absolute; a virtual environment is taken by its directory."""
    if not setting:
        return [Path(sys.executable).absolute()] if sys.executable else []
    given = Path(setting).expanduser()
    if given.is_absolute() or len(given.parts) > 1:
        inside = [given / "bin" / "python3", given / "bin" / "python", given / "Scripts" / "python.exe"]
        return [place.absolute() for place in [given, *inside]]
    found = shutil.which(setting)
    return [Path(found).absolute()] if found else [Path(d) / setting for d in os.get_exec_path()]
