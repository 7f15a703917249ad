from __future__ import annotations

import pytest

from indexer.text import chunk
from indexer.text.chunk import holds_secret

# Put together here, so that no scanner takes this file for a leak.
SECRETS = [
    "-----BEGIN RSA " + "PRIVATE KEY-----",
    "AKIA" + "A1" * 8,
    "ASIA" + "B2" * 8,
    *(f"gh{letter}_" + "a1" * 18 for letter in "pousr"),
    "github_pat_" + "a1" * 20,
    "glpat-" + "a1" * 10,
    *(f"xox{letter}-" + "1a" * 5 for letter in "abprs"),
    "sk-" + "a1" * 16,
    "sk-ant-" + "a1" * 16,
    "sk_live_" + "a1" * 10,
    "rk_live_" + "a1" * 10,
    "AIza" + "a1b2c" * 7,
    ".".join(("eyJ" + "a1" * 5, "eyJ" + "b2" * 5, "c3" * 6)),
]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret[:8])
def test_every_kind_of_secret_is_seen_in_the_middle_of_a_text(secret: str) -> None:
    assert chunk._SECRET.search(secret)
    assert holds_secret(f"the deployment uses\n{secret} until March")


@pytest.mark.parametrize("text", ["a task-force", "the eyJ of a token", "sk- and gh_ and xox", "PRIVATE KEY"])
def test_what_only_looks_like_one_is_not_taken_for_one(text: str) -> None:
    assert not holds_secret(text)
