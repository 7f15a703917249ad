from __future__ import annotations

import pytest

from indexer.documents.secret_policy import BLANK_ALL, SecretPolicy
from indexer.text.secrets import SECRETS


@pytest.mark.parametrize("path", ["docs/examples/a.md", "docs/examples/deep/b.md", "x/note.txt", "vendor/z/c.md"])
def test_a_file_that_a_pattern_names_itself_or_by_its_directory_is_shown_whole(path: str) -> None:
    policy = SecretPolicy(("ghp_.*",), ("docs/examples/**", "note.txt", "vendor/"))
    assert policy.shown_in("/notes", f"/notes/{path}") is None


@pytest.mark.parametrize("path", ["docs/a.md", "examples/a.md", "notes.txt", "vendor"])
def test_in_every_other_file_the_patterns_alone_decide(path: str) -> None:
    policy = SecretPolicy(("ghp_.*",), ("docs/examples/**", "note.txt", "vendor/"))
    assert policy.shown_in("/notes", f"/notes/{path}") == ("ghp_.*",)


def test_the_stamp_changes_with_what_is_allowed_and_is_that_of_the_rules_when_nothing_is() -> None:
    stamps = {
        SecretPolicy(("a",)).stamp,
        SecretPolicy((), ("a",)).stamp,
        SecretPolicy(("a", "b")).stamp,
        BLANK_ALL.stamp,
    }
    assert len(stamps) == 4
    assert BLANK_ALL.stamp == SECRETS
    assert all(stamp.startswith(SECRETS) and " " not in stamp for stamp in stamps)
