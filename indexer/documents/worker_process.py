"""One worker process as the pool sees it: started, given one file at a time, killed when it exceeds a limit."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread
from anyio.streams.buffered import BufferedByteReceiveStream

from indexer.documents import worker_protocol
from indexer.documents.confinement import LEFT_OUT, STEPS
from indexer.documents.parse import WALL_CLOCK_FACTOR, Parsed, ParseLimits, open_source
from indexer.documents.pool_status import WorkerLog
from indexer.documents.worker_protocol import ChunkingUnavailable, ChunkRequest, PreparedFile, Request
from indexer.errors import ParseFailed
from indexer.types import File

if TYPE_CHECKING:
    from anyio.abc import Process, TaskGroup


_EXIT_GRACE_S = 2.0
"""Seconds a process has to exit after its input ended."""
_CRASHES = frozenset({-4, -5, -6, -7, -11, -31})
"""Exit codes of a process whose code was at fault: SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGSEGV, SIGSYS."""
_BLOCK = 4096
"""Bytes of stderr read at once."""
_DECODED_INLINE = 65_536
"""Bytes up to which a frame is decoded on the event loop: a third of a millisecond, less than using a thread."""


class NotStarted(Exception):
    """A worker process did not start; says why.

    Attributes:
        crashed: Whether it ended by a fault of its own code.
    """

    def __init__(self, why: str, *, crashed: bool = False) -> None:
        super().__init__(why)
        self.crashed = crashed


class ParserDied(ParseFailed):
    """The process that read a file crashed, hung or was killed, perhaps not because of this file."""


@dataclass(slots=True)
class ParserProcess:
    """A running worker process; ``close`` or ``kill`` ends it.

    Attributes:
        pid: Its process id.
        steps: The limits on its native code that are in force, of ``confinement.STEPS``.
        unavailable: For each other one why not.
        refused: What was refused to its native code when it tried, of ``confinement.REFUSALS``.
        missing: Libraries it could not import.
        failing: Libraries that did not read their sample.
        can_chunk: Whether it can also chunk files.
        retired: It must not get another file.
        frame_length: Bytes of the frame that is being received, None between frames.
        files: The socket that open files go over; None where the system cannot hand them over.
    """

    process: Process
    incoming: BufferedByteReceiveStream
    log: WorkerLog
    files: socket.socket | None = None
    steps: tuple[str, ...] = ()
    unavailable: dict[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    can_chunk: bool = False
    retired: bool = False
    frame_length: int | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def left_out(self) -> tuple[str, ...]:
        """The limits that it was told to leave out."""
        return tuple(name for name, why in self.unavailable.items() if why == LEFT_OUT)

    @property
    def alive(self) -> bool:
        """Whether it can be given a file."""
        return self.process.returncode is None and not self.retired and not _has_exited(self.pid)

    async def parse(self, file: File, limits: ParseLimits) -> Parsed:
        """Have one file parsed; kill the process if it does not answer in time.

        Raises:
            ParseSkipped: The file is not indexed on purpose.
            ParseFailed: The file is damaged, or cannot be opened.
            ParserDied: The file took too long or ended the process.
        """
        (message,) = await self._exchange(Request(file.path, file.folder, limits), file.size)
        return worker_protocol.parsed_from(message)

    async def prepare(self, file: File, limits: ParseLimits, order: ChunkRequest) -> PreparedFile:
        """Have one file parsed and chunked, as ``parse``.

        Raises:
            ChunkingUnavailable: The process cannot chunk.
            ParseSkipped, ParseFailed, ParserDied: As ``parse``.
        """
        messages = await self._exchange(Request(file.path, file.folder, limits, order), file.size)
        if len(messages) <= 3:  # at most one of chunks
            return worker_protocol.prepared_from(messages)
        return await to_thread.run_sync(worker_protocol.prepared_from, messages)

    async def _exchange(self, asked: Request, size: int) -> list[worker_protocol.Message]:
        """Send a request and receive its whole answer; kill the process if a part of it stays in the pipe."""
        limits = asked.limits
        seconds = limits.time_for(size)
        messages: list[worker_protocol.Message] = []
        with ExitStack() as opened:
            files = await to_thread.run_sync(_open_files, asked, opened)
            try:
                await self._send(asked, files)
                opened.close()  # the process has its own now
                while not messages or messages[-1].get("more"):
                    messages.append(await self._receive_within(seconds))
                    if "characters" in messages[-1]:
                        seconds = limits.time_to_chunk(messages[-1]["characters"])
            except TimeoutError:
                await self.kill()
                raise ParserDied(f"took longer than the limit of {seconds:.0f} s; its parser was ended") from None
            except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead, ValueError, OSError):
                raise ParserDied(await self._death_reason(limits)) from None
            except BaseException:
                # Cancelled in the middle of an answer: nobody will read the rest.
                await self.kill()
                raise
        peak = int(messages[-1].get("peak_bytes", 0))
        self.retired = bool(messages[-1].get("retire")) or 0 < limits.memory_bytes // 2 < peak
        return messages

    async def _receive_within(self, seconds: float) -> worker_protocol.Message:
        """Receive a message. The limit is of CPU time; by the clock it may take ``WALL_CLOCK_FACTOR`` times as long.

        Raises:
            TimeoutError: It did not come.
        """
        began, cpu_before = anyio.current_time(), _cpu_seconds(self.pid)
        until = began + seconds
        while True:
            with anyio.move_on_at(until):
                return await self._receive()
            now, cpu_now = anyio.current_time(), _cpu_seconds(self.pid)
            if (
                cpu_before is None
                or cpu_now is None
                or cpu_now - cpu_before >= seconds
                or now - began >= WALL_CLOCK_FACTOR * seconds
            ):
                raise TimeoutError
            until = min(now + seconds - (cpu_now - cpu_before), began + WALL_CLOCK_FACTOR * seconds)

    async def wait_until_ready(self, seconds: float) -> None:
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
            code = await self._exit_code()
            raise NotStarted(f"ended at the start ({_exit_text(code)})", crashed=code in _CRASHES) from None
        except BaseException:
            await self.kill()
            raise
        if not message.get("ready"):
            await self.kill()
            raise NotStarted("the interpreter is no parser: it did not say that it is ready")
        try:
            self.steps, self.unavailable = tuple(message["steps"]), dict(message["unavailable"])
            self.refused, self.missing = tuple(message["refused"]), tuple(message["missing"])
            self.failing, self.can_chunk = tuple(message["failing"]), bool(message["can_chunk"])
        except KeyError as error:
            await self.kill()
            raise NotStarted(f"its folder-mcp is another version ({error} is missing); restart the server") from None

    async def close(self) -> None:
        """End its input, wait until it exits, kill it if it does not."""
        with anyio.CancelScope(shield=True):
            if self.process.stdin is not None:
                await self.process.stdin.aclose()
            with anyio.move_on_after(_EXIT_GRACE_S):
                await self.process.wait()
            await self.kill()

    async def kill(self) -> None:
        """Kill it and wait until it has ended; does nothing when it has ended already."""
        self.retired = True
        with anyio.CancelScope(shield=True):
            # Signalling a child that has ended would reap it before the event loop does.
            if self.process.returncode is None and not _has_exited(self.pid):
                with suppress(ProcessLookupError):
                    self.process.kill()
            if self.files is not None:
                self.files.close()
            await self.process.aclose()

    async def _send(self, asked: Request, files: Sequence[FileIO]) -> None:
        assert self.process.stdin is not None
        if self.files is not None:
            worker_protocol.send_descriptors(self.files, files)
        await self.process.stdin.send(worker_protocol.encode_frame(worker_protocol.request_message(asked)))

    async def _receive(self) -> worker_protocol.Message:
        """Receive a message. If a call is cancelled within a message, the next call continues with it."""
        if self.frame_length is None:
            (self.frame_length,) = worker_protocol.HEADER.unpack(
                await self.incoming.receive_exactly(worker_protocol.HEADER.size)
            )
        if self.frame_length > worker_protocol.MAX_FRAME:
            raise ValueError("a frame beyond every limit")
        body = await self.incoming.receive_exactly(self.frame_length)
        if len(body) <= _DECODED_INLINE:
            message = worker_protocol.decode_frame(body)
        else:
            # Decoding a book takes 0.1 s: not on the event loop.
            with anyio.CancelScope(shield=True):
                message = await to_thread.run_sync(worker_protocol.decode_frame, body)
        self.frame_length = None
        return message

    async def _exit_code(self) -> int | None:
        """Wait until it has ended, killing it if needed; its exit code."""
        with anyio.move_on_after(_EXIT_GRACE_S):
            await self.process.wait()
        code = self.process.returncode
        await self.kill()
        return code

    async def _death_reason(self, limits: ParseLimits) -> str:
        code = await self._exit_code()
        memory = f"perhaps it needed more than {limits.memory_bytes / 1e6:,.0f} MB of memory"
        last = [c.text for c in self.log.last("error") if c.pid == self.pid]
        said = f'; it said "{last[-1][:120]}"' if last else ""
        return f"the parser crashed on this file ({_exit_text(code)}){said}" + (
            f"; {memory}" if code in (-6, -9) else ""
        )


def _open_files(asked: Request, opened: ExitStack) -> list[FileIO]:
    """What a request is about, open until ``opened`` is closed: the file, and the tokenizer's if it is to be chunked.

    Raises:
        ParseSkipped, ParseFailed: As ``open_source``.
        ChunkingUnavailable: The tokenizer's file cannot be opened.
    """
    files = [opened.enter_context(open_source(asked.path, asked.folder))]
    if asked.order is not None:
        try:
            files.append(opened.enter_context(FileIO(asked.order.tokenizer, "rb")))
        except OSError as error:
            raise ChunkingUnavailable(f"{asked.order.tokenizer}: {error.strerror or error}") from None
    return files


async def start(launch: Launch, tasks: TaskGroup, log: WorkerLog) -> ParserProcess:
    """Start a worker process and collect its stderr; does not wait until it is ready.

    Raises:
        NotStarted: The system refuses to start it.
    """
    arguments: dict[str, Any] = {"cwd": launch.directory, "env": launch.environment, "start_new_session": True}
    command = list(launch.command)
    files = theirs = None
    try:
        if worker_protocol.CAN_PASS_DESCRIPTORS:
            files, theirs = socket.socketpair()
            files.setblocking(False)
            command += ["--files", str(theirs.fileno())]
            arguments["pass_fds"] = (theirs.fileno(),)
        # If this were cancelled, the process would be killed but never waited for.
        with anyio.CancelScope(shield=True):
            process = await anyio.open_process(command, **arguments)
    except BaseException as error:
        if files is not None:
            files.close()
        if isinstance(error, OSError):
            raise NotStarted(f"{launch.interpreter} cannot be started: {error.strerror or error}") from None
        raise
    finally:
        if theirs is not None:
            theirs.close()
    assert process.stdout is not None
    tasks.start_soon(_collect_stderr, process, log)
    return ParserProcess(process, BufferedByteReceiveStream(process.stdout), log, files)


async def start_ready(launch: Launch, tasks: TaskGroup, log: WorkerLog, seconds: float) -> ParserProcess:
    """Start a worker process and wait until it is ready.

    Raises:
        NotStarted: It was not ready within ``seconds``.
    """
    parser = await start(launch, tasks, log)
    await parser.wait_until_ready(seconds)
    return parser


LESS: tuple[tuple[str, ...], ...] = (("reading",), ("calls",), ("changes",), ("network",), ("reading", "calls"), STEPS)
"""What is left out, in this order, when a library does not bear all limits."""


async def start_confined(
    how: Callable[[tuple[str, ...]], Awaitable[Launch]], tasks: TaskGroup, log: WorkerLog, seconds: float
) -> ParserProcess:
    """Start a worker process with every limit or, if a library's sample fails then, with the most that it bears.

    Where it fails without limits too, the library is at fault and every limit is kept.

    Args:
        how: How to start it without some steps; it is to try its samples.
        tasks: As ``start``.
        log: As ``start``.
        seconds: As ``start_ready``.

    Raises:
        NotStarted: It was not ready within ``seconds``, or crashes whatever is left out.
    """
    first, why = None, None
    try:
        first = await start_ready(await how(()), tasks, log, seconds)
        if not first.failing:
            return first
    except NotStarted as error:
        if not error.crashed:
            raise
        why = error
    for left_out in LESS:
        try:
            other = await start_ready(await how(left_out), tasks, log, seconds)
        except NotStarted:
            continue
        except BaseException:
            if first is not None:
                await first.kill()
            raise
        if first is None or len(other.failing) < len(first.failing):
            if first is not None:
                await first.close()
            return other
        await other.close()
    if first is None:
        raise why or NotStarted("it crashes at its start")
    return first


async def _collect_stderr(process: Process, log: WorkerLog) -> None:
    """Log what a process writes to stderr, line by line, until it ends."""
    assert process.stderr is not None
    rest = b""
    try:
        async for block in process.stderr:
            *lines, rest = (rest + block)[-16 * _BLOCK :].split(b"\n")
            for line in lines:
                log.add(line.decode("utf-8", "replace"), process.pid)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        pass  # the pipe broke because the process was killed
    log.add(rest.decode("utf-8", "replace"), process.pid)


def _cpu_seconds(pid: int) -> float | None:
    """CPU seconds of a process; None where that is not known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as status:
            fields = status.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):  # not Linux, or it has ended
        return None


def _has_exited(pid: int) -> bool:
    """Whether a child has ended, even if the event loop does not know yet; leaves it to the loop to reap it."""
    if sys.platform == "linux":
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True
    return False


def _exit_text(code: int | None) -> str:
    """An exit code in words."""
    if code is None:
        return "no exit code"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


# The workers' interpreter -------------------------------------------------------------------------------------------
# Which Python runs the worker processes, checked before it is started.

# A child gets what its interpreter needs to start, and nothing else of what the server was given (tokens, proxies).
_ENVIRONMENT = ("LD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP")


class NoInterpreter(Exception):
    """No Python to run workers with; the message names every path that was tried."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a worker process is started.

    Attributes:
        interpreter: Absolute path of the Python.
        command: The whole command line.
        environment: Its whole environment.
        directory: Its working directory: the root of the file system, where no file can be imported by mistake.
    """

    interpreter: str
    command: tuple[str, ...]
    environment: dict[str, str]
    directory: str


WORKER = "indexer.documents.worker"
"""The module that a worker process runs."""


def launch(
    setting: str | None, memory_bytes: int, *, once: bool, without: Sequence[str] = (), samples: bool = True
) -> Launch:
    """Find interpreter and worker module and say how to start them.

    Args:
        setting: A Python to use instead of this one: a file, a virtual environment's directory, or a command name.
        memory_bytes: The worker's memory limit.
        once: End after one file.
        without: Steps of its confinement to leave out.
        samples: Try each library on a sample before it says that it is ready.

    Raises:
        NoInterpreter: One of the two does not exist; names the paths tried.
    """
    interpreter = find_interpreter(setting)
    root = Path(__file__).parent.parent.parent
    file = root.joinpath(*WORKER.split(".")).with_suffix(".py")
    if not file.is_file():
        raise NoInterpreter(f"the parser module is missing: looked at {file}; reinstall folder-mcp")
    options = ["--memory", str(memory_bytes), *(["--once"] if once else [])]
    options += ["--without", ",".join(without)] if without else []
    options += [] if samples else ["--no-samples"]
    # -u: nothing waits in a buffer. -P: neither the working directory nor a script's is searched for modules.
    command = (interpreter, "-u", "-P", "-m", WORKER, *options)
    environment = os.environ  # environment: a child gets a few variables of this process
    kept = {name: environment[name] for name in _ENVIRONMENT if name in environment}
    fixed = {"PYTHONPATH": str(root), "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath}
    return Launch(interpreter, command, kept | fixed, Path(os.sep).absolute().anchor)


def find_interpreter(setting: str | None) -> str:
    """Absolute path of an executable Python.

    Raises:
        NoInterpreter: There is none at any of the paths it names.
    """
    candidates = _candidates(setting)
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    looked = (
        ", ".join(str(candidate) for candidate in candidates) or "no place (this Python does not know its own path)"
    )
    remedy = "correct the interpreter setting (PYTHON_PATH)" if setting else "set the interpreter (PYTHON_PATH)"
    raise NoInterpreter(f"no Python to run parsers with: looked at {looked}; {remedy}")


def interpreter_or_empty(setting: str | None) -> str:
    """``find_interpreter``, or empty when there is none."""
    try:
        return find_interpreter(setting)
    except NoInterpreter:
        return ""


def _candidates(setting: str | None) -> list[Path]:
    """Absolute paths where the interpreter may be; the setting may be the directory of a virtual environment."""
    if not setting:
        return [Path(sys.executable).absolute()] if sys.executable else []
    given = Path(setting).expanduser()
    if given.is_absolute() or len(given.parts) > 1:
        inside = [given / "bin" / "python3", given / "bin" / "python", given / "Scripts" / "python.exe"]
        return [place.absolute() for place in [given, *inside]]
    found = shutil.which(setting)
    return [Path(found).absolute()] if found else [Path(d) / setting for d in os.get_exec_path()]
