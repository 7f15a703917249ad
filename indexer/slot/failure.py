"""What can go wrong with a model, by name: code, one sentence, what to do, and whether trying again makes sense.

Strings only. An exception that is kept keeps its traceback, its frames and with them the model's weights
(measured: gc cannot free a model whose load error is stored), so exceptions end here.
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

# Cancelling a load --------------------------------------------------------------------------------------------------
# Looking, between two stages of a load, whether anybody still wants it.


def raise_if_stopped(stopped: Callable[[], bool]) -> None:
    """Leave the load if ``stopped`` says so.

    Raises:
        indexer.slot.failure.Stopped: Nobody wants the model any more.
    """
    if stopped():
        raise Stopped


# Failure ------------------------------------------------------------------------------------------------------------


class Stopped(Exception):
    """A load ended between two stages because nobody wants the model any more."""


class ModelRefused(Exception):
    """A loader's own refusal, already named.

    Args:
        code: One of the codes in ``HINTS``.
        message: One sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as it is stored, shown and decided upon.

    Attributes:
        code: Stable word, a key of ``HINTS``.
        message: One sentence, without build paths.
        hint: What the user can do, one sentence.
        retryable: Whether trying again unchanged makes sense.
        retry_after: Seconds the other side asked us to wait, or None.
    """

    code: str
    message: str
    hint: str
    retryable: bool
    retry_after: float | None = None

    def unavailable(self, retry_after: float | None = None) -> SlotUnavailable:
        """This failure as the exception callers catch."""
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
tried a second time, after giving back what it could (see ``load.attempt``)."""

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

# Words of the message -> code; first match wins. Libraries raise RuntimeError, OSError, ValueError for all of these.
_BY_WORDS: tuple[tuple[str, str], ...] = (
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
_PATTERNS = tuple((re.compile(words, re.IGNORECASE), code) for words, code in _BY_WORDS)

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

# Where the library was built says nothing to its user and reads like a file of theirs.
_BUILD_PATH = re.compile(
    r"\s*[\[(]?(?:enforce fail |exception raised |triggered internally |raised )?(?:from \w+ )?(?:at )?"
    r"(?<![\w.+@/\\:-])(?:[A-Za-z]:)?[\w.+@/\\-]*\w\.(?:cc|cpp|cxx|cu|cuh|h|hpp|rs|py|pyx|mm)"
    r"(?::\d+|\", line \d+)\.?[\])]?\.?",
    re.IGNORECASE,
)
_READ = 2000
"""Characters of a line that are looked at: some libraries print a whole configuration on one."""
_LONGEST = 300


def failure(code: str, message: str, *, retryable: bool | None = None, retry_after: float | None = None) -> Failure:
    """A failure of a known code, with the hint and the retry rule of that code unless told otherwise."""
    return Failure(code, message, HINTS[code], code in RETRIED if retryable is None else retryable, retry_after)


def classify(error: BaseException) -> Failure:
    """Name an exception without importing the library that raised it.

    The exception and then what caused it are looked at; the first that is not merely ``internal`` names the
    failure, the outermost with a message gives the sentence.
    """
    named = next((code for link in _chain(error) if (code := _code(link)) != "internal"), "internal")
    message = next((text for link in _chain(error) if (text := sentence(str(link)))), "")
    text = message or f"{type(error).__name__} without a message."
    if named == "internal":
        text = f"{type(error).__name__}: {text}"
    found = failure(named, text, retry_after=_retry_after(error))
    if named == "dependency_missing":
        missing = getattr(error, "name", None)
        if isinstance(missing, str) and missing:
            return replace(found, hint=f"Install the package {missing!r}, then restart folder-mcp.")
    return found


def sentence(text: str) -> str:
    """The first line that says something, without build paths, at most 300 characters."""
    for line in text.splitlines():
        said = re.sub(r"\s+", " ", _BUILD_PATH.sub("", line[:_READ])).strip(" :,;")
        if re.search(r"\w", said):
            return said if len(said) <= _LONGEST else said[: _LONGEST - 1].rstrip() + "…"
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
# The last failure of a model's load and when it may be tried again: attempts, pauses, breaker. Pure functions.
#
# Attempts are 15 s apart, counted from the end of the failure; after three (or one that trying again cannot mend)
# the breaker opens, and half-opens after five minutes: the next who asks gets one attempt.

ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """What stands between a model and the slot.

    Attributes:
        spec: What failed to load.
        failure: Why.
        at: When, wall clock.
        attempt: Which attempt of the series failed, from 1.
        not_before: Loop time of the next attempt; infinite when only a restart helps.
        open: Whether the series is over: nothing is tried until somebody asks after ``not_before``.
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
    """The trouble after an attempt failed at loop time ``now`` (wall clock ``at``).

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


def reset_breaker(trouble: CircuitBreaker, now: float) -> CircuitBreaker:
    """The trouble after a manual retry: may be tried now, as the first attempt of a new series."""
    return replace(trouble, attempt=0, not_before=now, open=False)


def while_load_timed_out(trouble: CircuitBreaker) -> CircuitBreaker:
    """The trouble of a load that outlived its limit: nothing is tried while it still runs."""
    return replace(trouble, not_before=math.inf)


def after_timed_out_load(trouble: CircuitBreaker, now: float) -> CircuitBreaker:
    """The trouble once that load has ended without a model: the pause counts from its end."""
    return replace(trouble, not_before=now + (BREAKER_S if trouble.open else LOAD_RETRY_S))
