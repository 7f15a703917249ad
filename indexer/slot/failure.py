"""Failures of models: a code, a sentence, a hint, whether a retry makes sense, and the circuit breaker.

Strings only. A stored exception keeps its traceback, its frames and with them the model's weights (measured: gc
cannot free a model whose load error is stored), so exceptions are converted here.
"""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from indexer.errors import SlotUnavailable
from indexer.slot.embedder import ModelSpec
from indexer.waits import BREAKER_S, LOAD_RETRY_S


class Stopped(Exception):
    """A load ended between two stages because nobody needs the model any more."""


def raise_if_stopped(stopped: Callable[[], bool]) -> None:
    """End a load between two stages when ``stopped`` is true.

    Raises:
        Stopped: Nobody needs the model any more.
    """
    if stopped():
        raise Stopped


class ModelRefused(Exception):
    """A loader refuses a model, with a code.

    Args:
        code: One of the codes in ``HINTS``.
        message: One sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as it is stored and shown, and as the policy depends on it.

    Attributes:
        code: Stable identifier, a key of ``HINTS``.
        message: One sentence, without build paths.
        hint: What the user can do, one sentence.
        retryable: Whether trying again unchanged makes sense.
        retry_after: Seconds to wait, as a server asked; else None.
    """

    code: str
    message: str
    hint: str
    retryable: bool
    retry_after: float | None = None

    def unavailable(self, retry_after: float | None = None) -> SlotUnavailable:
        """This failure as the exception that callers of the slot catch."""
        return SlotUnavailable(self.code, self.message, self.hint, retry_after)


HINTS: dict[str, str] = {
    "dependency_missing": "Install the missing package, then restart folder-mcp.",
    "model_not_found": "Check the model's name, or download it with `folder-mcp models pull`.",
    "offline_missing": "Go online once and run `folder-mcp models pull`.",
    "unprepared": "Run `folder-mcp models prepare` with the model's name.",
    "auth_required": "Accept the model's licence on its page and set a token, then pull it again.",
    "network": "Check the connection and proxy settings, or download the model beforehand.",
    "disk_full": "Free space on the disk that holds the models.",
    "permission": "Give this user read access to the model's files.",
    "corrupt_files": "Delete the model's directory and pull it again.",
    "incompatible": "Choose another model, or re-index the folder with this one.",
    "out_of_memory_device": "Choose a smaller model or set the device to cpu.",
    "out_of_memory_host": "Close other programs or choose a smaller model.",
    "device_lost": "Restart folder-mcp; if it happens again, update the graphics driver.",
    "load_timeout": "Is the disk slow? The limit counts time without progress; a smaller model loads faster.",
    "orphaned_load": "A load that outlived its limit still holds the slot; keyword search works meanwhile.",
    "revoked": "The slot was held without work for too long; ask again.",
    "thread_died": "Ask again; the model thread is started anew.",
    "stopping": "folder-mcp is shutting down; ask again after it has restarted.",
    "busy": "Too many searches wait for the model; ask again shortly.",
    "waiting": "The model is busy; ask again shortly.",
    "loading": "The model is being loaded; ask again shortly.",
    "stopped": "The load was given up because another model was wanted; ask again.",
    "internal": "See the log of folder-mcp for details.",
}
"""Every code, and what the user can do about it."""

RETRIED = frozenset({"network", "load_timeout", "thread_died", "internal", "stopped"})
"""Codes that are tried again unchanged. Memory is not among them: a load that runs out of memory has already been
tried a second time, after memory was released (see ``slot_state.load_with_fallback``)."""

# Exception class names (of the class or its bases) -> code; first match along the class's bases wins.
_BY_NAME: dict[str, str] = {
    "Stopped": "stopped",
    "ImportError": "dependency_missing",
    "LocalEntryNotFoundError": "offline_missing",
    "OfflineModeIsEnabled": "offline_missing",
    "GatedRepoError": "auth_required",
    "RepositoryNotFoundError": "model_not_found",
    "RevisionNotFoundError": "model_not_found",
    "EntryNotFoundError": "model_not_found",
    "FileNotFoundError": "model_not_found",
    "NotADirectoryError": "model_not_found",
    "SafetensorError": "corrupt_files",
    "JSONDecodeError": "corrupt_files",
    "UnicodeDecodeError": "corrupt_files",
    "UnpicklingError": "corrupt_files",
    "InvalidProtobuf": "corrupt_files",
    "BadZipFile": "corrupt_files",
    "PermissionError": "permission",
    "OutOfMemoryError": "out_of_memory_device",
    "MemoryError": "out_of_memory_host",
    "AcceleratorError": "device_lost",
    "ConnectionError": "network",
    "TimeoutError": "network",
    "Timeout": "network",
    "TransportError": "network",
}

# Patterns in the message -> code; first match wins. Libraries raise RuntimeError, OSError, ValueError for all these.
_BY_MESSAGE: tuple[tuple[str, str], ...] = (
    (r"no space left on device|disk quota exceeded", "disk_full"),
    (
        r"DefaultCPUAllocator|can't allocate memory|cannot allocate memory|bad_alloc|bad allocation",
        "out_of_memory_host",
    ),
    (r"CUDA out of memory|MPS backend out of memory|CUBLAS_STATUS_ALLOC_FAILED|out of memory", "out_of_memory_device"),
    (
        r"illegal memory access|device-side assert|unspecified launch failure|driver version is insufficient"
        r"|no CUDA-capable device|device is lost|uncorrectable ECC|CUDA driver error|GPU is lost",
        "device_lost",
    ),
    (
        r"cannot open shared object|DLL load failed|image not found|undefined symbol|No module named",
        "dependency_missing",
    ),
    (r"trust_remote_code|remote code|does not recognize this architecture|model type|dimension", "incompatible"),
    (r"unsupported model IR|opset|Unsupported .* version", "incompatible"),
    (r"\b(401|403)\b|gated repo|awaiting a review", "auth_required"),
    (
        r"offline mode|outgoing traffic has been disabled|couldn't connect .* cached|local_files_only",
        "offline_missing",
    ),
    (r"not a valid model identifier|is not a local folder|no file named|404 Client Error", "model_not_found"),
    (r"\b(429|500|502|503|504)\b|timed out|connection (reset|refused|aborted)|name resolution", "network"),
    (
        r"Protobuf parsing failed|invalid (protobuf|header)|HeaderTooLarge|unexpected end of file|hash mismatch"
        r"|checksum|is not valid JSON|file size|incomplete metadata|size mismatch",
        "corrupt_files",
    ),
)
_PATTERNS = tuple((re.compile(words, re.IGNORECASE), code) for words, code in _BY_MESSAGE)

_BY_ERRNO: dict[int, str] = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.ENOENT: "model_not_found",
    errno.ENOMEM: "out_of_memory_host",
    errno.ECONNRESET: "network",
    errno.ECONNREFUSED: "network",
    errno.ETIMEDOUT: "network",
}

# The path of a source file on the machine where a library was built: it would read like a file of the user's.
_BUILD_PATH = re.compile(
    r"\s*[\[(]?(?:enforce fail |exception raised |triggered internally |raised )?(?:from \w+ )?(?:at )?"
    r"(?<![\w.+@/\\:-])(?:[A-Za-z]:)?[\w.+@/\\-]*\w\.(?:cc|cpp|cxx|cu|cuh|h|hpp|rs|py|pyx|mm)"
    r"(?::\d+|\", line \d+)\.?[\])]?\.?",
    re.IGNORECASE,
)
_MAX_LINE_CHARS = 2000
"""Characters of a line that are searched: some libraries print a whole configuration on one line."""
_MAX_MESSAGE_CHARS = 300


def failure(code: str, message: str, *, retryable: bool | None = None, retry_after: float | None = None) -> Failure:
    """A failure of a known code, with the hint and, unless given, the retry rule of that code."""
    return Failure(code, message, HINTS[code], code in RETRIED if retryable is None else retryable, retry_after)


def classify(error: BaseException) -> Failure:
    """Convert an exception to a failure without importing the library that raised it.

    The exception and its causes are examined: the code is that of the first that has one other than ``internal``, the
    sentence that of the outermost with a message.
    """
    code = next((code for link in _chain(error) if (code := _code(link)) != "internal"), "internal")
    message = next((text for link in _chain(error) if (text := first_line(str(link)))), "")
    text = message or f"{type(error).__name__} without a message."
    if code == "internal":
        text = f"{type(error).__name__}: {text}"
    result = failure(code, text, retry_after=_retry_after(error))
    if code == "dependency_missing":
        missing = getattr(error, "name", None)
        if isinstance(missing, str) and missing:
            return replace(result, hint=f"Install the package {missing!r}, then restart folder-mcp.")
    return result


def first_line(text: str) -> str:
    """The first line that has a word, without build paths, at most 300 characters."""
    for line in text.splitlines():
        cleaned = re.sub(r"\s+", " ", _BUILD_PATH.sub("", line[:_MAX_LINE_CHARS])).strip(" :,;")
        if re.search(r"\w", cleaned):
            return cleaned if len(cleaned) <= _MAX_MESSAGE_CHARS else cleaned[: _MAX_MESSAGE_CHARS - 1].rstrip() + "…"
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _code(error: BaseException) -> str:
    if isinstance(error, ModelRefused):
        return error.code if error.code in HINTS else "internal"
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        return _BY_ERRNO[error.errno]
    names = [base.__name__ for base in type(error).__mro__]
    if "OutOfMemoryError" in names and "MemoryError" not in names:
        return "out_of_memory_device"
    message = str(error)
    for pattern, code in _PATTERNS:
        if pattern.search(message):
            return code
    return next((_BY_NAME[name] for name in names if name in _BY_NAME), "internal")


def _retry_after(error: BaseException) -> float | None:
    for link in _chain(error):
        headers = getattr(getattr(link, "response", None), "headers", None)
        value = headers.get("Retry-After") if headers is not None else None
        if isinstance(value, str) and value.isdigit():
            return float(value)
    return None


# Circuit breaker ----------------------------------------------------------------------------------------------------
# When the load of a model that failed may be tried again. Pure functions.
#
# Attempts are 15 s apart, counted from the end of the failure. After three (or one whose failure lasts) the breaker
# opens; after five minutes it half-opens: the next request gets one attempt.

ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """Circuit-breaker state of one model.

    Attributes:
        spec: What failed to load.
        failure: Why.
        at: When, wall clock.
        attempt: Which attempt of the series failed, from 1.
        not_before: Loop time of the next attempt; infinite when only a restart helps.
        open: Whether the series is over: nothing is tried until a request comes after ``not_before``.
    """

    spec: ModelSpec
    failure: Failure
    at: float
    attempt: int
    not_before: float
    open: bool


def after_failure(
    previous: CircuitBreaker | None, spec: ModelSpec, failure: Failure, now: float, at: float
) -> CircuitBreaker:
    """The breaker after an attempt failed at loop time ``now`` (wall clock ``at``).

    A failed attempt through a half-open breaker opens it again at once.
    """
    attempt = previous.attempt + 1 if previous is not None and not previous.open else 1
    half_opened = previous is not None and previous.open and failure.retryable
    if half_opened:
        attempt = ATTEMPTS
    over = not failure.retryable or attempt >= ATTEMPTS
    pause = BREAKER_S if over else max(LOAD_RETRY_S, failure.retry_after or 0.0)
    if failure.code == "device_lost":
        pause = math.inf  # the device's context is gone for this process
    return CircuitBreaker(spec, failure, at, attempt, now + pause, over)


def reset_breaker(breaker: CircuitBreaker, now: float) -> CircuitBreaker:
    """The breaker after a manual retry: the first attempt of a new series may start now."""
    return replace(breaker, attempt=0, not_before=now, open=False)


def while_load_timed_out(breaker: CircuitBreaker) -> CircuitBreaker:
    """The breaker of a load that has exceeded its limit: nothing is tried while it still runs."""
    return replace(breaker, not_before=math.inf)


def after_timed_out_load(breaker: CircuitBreaker, now: float) -> CircuitBreaker:
    """The breaker once that load has ended without a model: the pause counts from its end."""
    return replace(breaker, not_before=now + (BREAKER_S if breaker.open else LOAD_RETRY_S))
