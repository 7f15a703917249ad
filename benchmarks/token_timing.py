"""Whether the time of a refusal tells how much of a token was right: the page's check and that of MCP over HTTP.

    python benchmarks/token_timing.py [--tries 20000]

Wrong tokens of the right length that share their first 0 to 42 characters with the right one, and wrong lengths, all
made before and tried in an order drawn anew for each round. The real checks are called (that of HTTP with no other
tokens), without the network, whose noise is a thousand times that of the check. Printed are medians in nanoseconds, by
kind; "noise" is the largest difference between the medians of the two halves of one kind. A difference between kinds
that is no larger than the noise tells nothing. ``==`` is measured beside them, to show what the method can see.
"""

from __future__ import annotations

import argparse
import random
import secrets
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mcp_server.access.access_file import ACCESS_FILE, AccessFile
from mcp_server.access.tokens import AccessVerifier
from mcp_server.page.app import _has_token as page_has_token

SHARED = (0, 1, 8, 21, 32, 41, 42)
LENGTHS = (0, 20, 44, 200)


def wrong(token: str, shared: int) -> str:
    """Return a token of the same length whose first ``shared`` characters are right, and the next is not."""
    while True:
        other = secrets.token_urlsafe(32)
        if other[shared] != token[shared]:
            return token[:shared] + other[shared:]


def checks(token: str) -> dict[str, Callable[[bytes], bool]]:
    """The checks by name; each takes a token as a client sends it."""
    right = f"Bearer {token}".encode()
    verifier = AccessVerifier(token, AccessFile(Path("nowhere") / ACCESS_FILE))
    return {
        "page": lambda given: page_has_token({b"authorization": [given]}, token),
        "HTTP": lambda given: verifier._known(given[7:].decode()) is not None,
        "==": lambda given: given == right,
    }


def measure(check: Callable[[bytes], bool], token: str, tries: int) -> dict[str, list[int]]:
    """Return the nanoseconds of each try, by kind of wrong token."""
    times: dict[str, list[int]] = {f"{shared} right": [] for shared in SHARED} | {f"length {n}": [] for n in LENGTHS}
    rounds = []
    for _ in range(tries):
        given = [(f"{shared} right", wrong(token, shared)) for shared in SHARED]
        given += [(f"length {n}", secrets.token_urlsafe(n)[:n]) for n in LENGTHS]
        random.shuffle(given)
        rounds.append([(kind, f"Bearer {text}".encode()) for kind, text in given])
    # Copied as one, so that how a kind was made does not show in where it lies in memory.
    for sent in [[(kind, bytes(bytearray(header))) for kind, header in each] for each in rounds]:
        for kind, header in sent:
            began = time.perf_counter_ns()
            check(header)
            times[kind].append(time.perf_counter_ns() - began)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tries", type=int, default=20_000, help="of each kind")
    tries = parser.parse_args().tries
    token = secrets.token_urlsafe(32)
    for name, check in checks(token).items():
        times = measure(check, token, tries)
        medians = {kind: statistics.median(each) for kind, each in times.items()}
        halves = [abs(statistics.median(each[::2]) - statistics.median(each[1::2])) for each in times.values()]
        same = [medians[f"{shared} right"] for shared in SHARED]
        print(f"{name}: " + ", ".join(f"{kind} {median:.0f}" for kind, median in medians.items()))
        print(
            f"    largest difference by shared characters {max(same) - min(same):.0f} ns, noise {max(halves):.0f} ns"
        )


if __name__ == "__main__":
    main()
