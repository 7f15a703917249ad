"""One parser process: started and greeted, asked one file at a time, killed when it oversteps."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread
from anyio.streams.buffered import BufferedByteReceiveStream

from indexer.documents import worker_protocol
from indexer.documents.parse import WALL_CLOCK_FACTOR, Parsed, ParseLimits
from indexer.documents.pool_status import WorkerLog
from indexer.documents.worker_protocol import CutOrder, Prepared
from indexer.errors import ParseFailed

if TYPE_CHECKING:
    from anyio.abc import Process, TaskGroup


_SETTLE = 2.0
"""Seconds that a process whose input ended gets to leave by itself."""
_LINE = 4096
"""Bytes of stderr read at once."""
_SMALL = 65_536
"""Bytes of a frame that are decoded on the event loop: a third of a millisecond, less than a thread's round trip."""


class NotStarted(Exception):
    """A parser process did not come up; says why."""


class ParserDied(ParseFailed):
    """The process that read a file crashed, hung or was killed: perhaps not this file's fault."""


@dataclass(slots=True)
class ParserProcess:
    """A living parser process; ``close`` or ``kill`` ends it.

    Attributes:
        pid: Its process id.
        network: How it is kept from the network: ``namespace`` or ``blocked``.
        missing: Libraries it could not load.
        cuts: Whether it can cut files, too.
        spent: It should not get another file.
        length: Of the frame that is being received, None between two.
    """

    process: Process
    incoming: BufferedByteReceiveStream
    complaints: WorkerLog
    network: str = ""
    missing: tuple[str, ...] = ()
    cuts: bool = False
    spent: bool = False
    length: int | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it can take a file."""
        return self.process.returncode is None and not self.spent and not _has_exited(self.pid)

    async def ask(self, path: str, limits: ParseLimits, size: int) -> Parsed:
        """Have one file parsed; a process that does not answer in time is killed.

        Raises:
            ParseSkipped: The file is not indexed on purpose.
            ParseFailed: The file is damaged.
            ParserDied: The file took too long or ended the process.
        """
        (message,) = await self._talk(worker_protocol.request(path, limits), limits, size)
        return worker_protocol.answered(message)

    async def prepare(self, path: str, limits: ParseLimits, size: int, order: CutOrder) -> Prepared:
        """Have one file parsed and cut, as ``ask``.

        Raises:
            NotCut: The process cannot cut.
            ParseSkipped, ParseFailed, ParserDied: As ``ask``.
        """
        messages = await self._talk(worker_protocol.request(path, limits, order), limits, size)
        if len(messages) <= 3:  # at most one of chunks
            return worker_protocol.prepared_from(messages)
        return await to_thread.run_sync(worker_protocol.prepared_from, messages)

    async def _talk(
        self, request: worker_protocol.Message, limits: ParseLimits, size: int
    ) -> list[worker_protocol.Message]:
        """Ask and collect the answer; whatever goes wrong, the pipe is never left with half of one in it."""
        seconds = limits.time_for(size)
        messages: list[worker_protocol.Message] = []
        try:
            await self._send(request)
            while not messages or messages[-1].get("more"):
                messages.append(await self._within(seconds))
                if "characters" in messages[-1]:
                    seconds = limits.time_to_cut(messages[-1]["characters"])
        except TimeoutError:
            await self.kill()
            raise ParserDied(f"took longer than the limit of {seconds:.0f} s; its parser was ended") from None
        except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead, ValueError, OSError):
            raise ParserDied(await self._post_mortem(limits)) from None
        except BaseException:
            # Cancelled in the middle of an answer: what the pipe holds belongs to nobody.
            await self.kill()
            raise
        peak = int(messages[-1].get("peak_bytes", 0))
        self.spent = bool(messages[-1].get("retire")) or 0 < limits.memory_bytes // 2 < peak
        return messages

    async def _within(self, seconds: float) -> worker_protocol.Message:
        """The next message; a process that gets little of the processor has up to ``WALL_CLOCK_FACTOR`` times as long.

        Raises:
            TimeoutError: It did not come.
        """
        began, worked = anyio.current_time(), _worked(self.pid)
        until = began + seconds
        while True:
            with anyio.move_on_at(until):
                return await self._receive()
            now, spent = anyio.current_time(), _worked(self.pid)
            if (
                worked is None
                or spent is None
                or spent - worked >= seconds
                or now - began >= WALL_CLOCK_FACTOR * seconds
            ):
                raise TimeoutError
            until = min(now + seconds - (spent - worked), began + WALL_CLOCK_FACTOR * seconds)

    async def greet(self, seconds: float) -> None:
        """Wait for the ready frame.

        Raises:
            NotStarted: It did not come within ``seconds``, or the process ended first.
        """
        try:
            with anyio.fail_after(seconds):
                message = await self._receive()
        except TimeoutError:
            await self.kill()
            raise NotStarted(f"not ready within {seconds:.0f} s") from None
        except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead, ValueError, OSError):
            code = await self._ended()
            raise NotStarted(f"ended at the start ({_exit(code)})") from None
        except BaseException:
            await self.kill()
            raise
        if not message.get("ready"):
            await self.kill()
            raise NotStarted("the interpreter is no parser: it did not say that it is ready")
        self.network, self.missing = str(message["network"]), tuple(message["missing"])
        self.cuts = bool(message.get("cuts"))

    async def close(self) -> None:
        """End its input, let it leave, kill it if it stays."""
        with anyio.CancelScope(shield=True):
            if self.process.stdin is not None:
                await self.process.stdin.aclose()
            with anyio.move_on_after(_SETTLE):
                await self.process.wait()
            await self.kill()

    async def kill(self) -> None:
        """End it now and wait until it is gone; harmless when it is already."""
        self.spent = True
        with anyio.CancelScope(shield=True):
            # Signalling a child that has ended would reap it, behind the event loop's back.
            if self.process.returncode is None and not _has_exited(self.pid):
                with suppress(ProcessLookupError):
                    self.process.kill()
            await self.process.aclose()

    async def _send(self, message: worker_protocol.Message) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send(worker_protocol.encode(message))

    async def _receive(self) -> worker_protocol.Message:
        """The next message. Cancelled in the middle of one, the next call goes on with it."""
        if self.length is None:
            (self.length,) = worker_protocol.HEADER.unpack(
                await self.incoming.receive_exactly(worker_protocol.HEADER.size)
            )
        if self.length > worker_protocol.MOST:
            raise ValueError("a frame beyond every limit")
        body = await self.incoming.receive_exactly(self.length)
        if len(body) <= _SMALL:
            message = worker_protocol.decode(body)
        else:
            # Decoding a book takes 0.1 s: not on the event loop.
            with anyio.CancelScope(shield=True):
                message = await to_thread.run_sync(worker_protocol.decode, body)
        self.length = None
        return message

    async def _ended(self) -> int | None:
        """Make sure it is gone; its exit code."""
        with anyio.move_on_after(_SETTLE):
            await self.process.wait()
        code = self.process.returncode
        await self.kill()
        return code

    async def _post_mortem(self, limits: ParseLimits) -> str:
        code = await self._ended()
        memory = f"perhaps it needed more than {limits.memory_bytes / 1e6:,.0f} MB of memory"
        last = [c.text for c in self.complaints.last("error") if c.pid == self.pid]
        said = f'; it said "{last[-1][:120]}"' if last else ""
        return f"the parser crashed on this file ({_exit(code)}){said}" + (f"; {memory}" if code in (-6, -9) else "")


async def start(launch: Launch, tasks: TaskGroup, complaints: WorkerLog) -> ParserProcess:
    """Start a parser process, with its stderr being collected; it is not greeted yet.

    Raises:
        NotStarted: The system refuses to start it.
    """
    arguments: dict[str, Any] = {"cwd": launch.directory, "env": launch.environment, "start_new_session": True}
    try:
        # Cancelled in here, the process would be killed but not waited for: nobody has it yet who could.
        with anyio.CancelScope(shield=True):
            process = await anyio.open_process(list(launch.command), **arguments)
    except OSError as error:
        raise NotStarted(f"{launch.interpreter} cannot be started: {error.strerror or error}") from None
    assert process.stdout is not None
    tasks.start_soon(_collect, process, complaints)
    return ParserProcess(process, BufferedByteReceiveStream(process.stdout), complaints)


async def greeted(launch: Launch, tasks: TaskGroup, complaints: WorkerLog, seconds: float) -> ParserProcess:
    """Start a parser process and wait until it is ready.

    Raises:
        NotStarted: It did not come up within ``seconds``.
    """
    parser = await start(launch, tasks, complaints)
    await parser.greet(seconds)
    return parser


async def _collect(process: Process, complaints: WorkerLog) -> None:
    """Keep what a process writes to stderr, line by line, until it ends."""
    assert process.stderr is not None
    held = b""
    try:
        async for block in process.stderr:
            *lines, held = (held + block)[-16 * _LINE :].split(b"\n")
            for line in lines:
                complaints.add(line.decode("utf-8", "replace"), process.pid)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        pass  # the pipe broke because the process was killed
    complaints.add(held.decode("utf-8", "replace"), process.pid)


def _worked(pid: int) -> float | None:
    """Seconds of processor time a process has had; None where that is not known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as status:
            fields = status.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):  # not Linux, or it is gone
        return None


def _has_exited(pid: int) -> bool:
    """Whether a child has ended though the event loop has not been told yet; it is left for the loop to reap."""
    if sys.platform == "linux":
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True
    return False


def _exit(code: int | None) -> str:
    """An exit code in words."""
    if code is None:
        return "no exit code"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


# The workers' interpreter -------------------------------------------------------------------------------------------
# Which Python runs the parser processes, verified before it is started.

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


WORKER = "indexer.documents.worker"
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
    environment = os.environ  # environment: a child's environment is cut from this process's, name by name
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
