"""``access.toml``: what it grants, what is wrong with it, and that a wrong file grants nobody anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcp_server.access.access_file import AccessFile, AccessFileError, Grants, moment, parse, read_text
from mcp_server.access.tokens import digest_of

DIGEST = digest_of("x")
FILE = Path("/data/access.toml")


def users(*lines: str, name: str = "ada") -> str:
    return "\n".join([f"[users.{name}]", f'token_sha256 = "{DIGEST}"', *lines, ""])


def test_users_have_their_own_folders_and_those_of_their_groups(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    text = users('groups = ["team"]', f'folders = ["{tmp_path}/link", "~/notes"]') + (
        '[groups.team]\nfolders = ["/srv/team"]\n[groups."/eng ops"]\nfolders = []\n'
    )
    found = parse(text, FILE)
    assert found.users["ada"].folders == (
        f"{tmp_path}/real",
        os.path.realpath(os.path.expanduser("~/notes")),
        "/srv/team",
    )
    assert found.folders_of(["team", "/eng ops", "none"]) == ("/srv/team",)


def test_an_empty_file_and_none_grant_nothing(tmp_path: Path) -> None:
    assert parse("", FILE) == Grants() == AccessFile(tmp_path / "none").grants()


WRONG = {
    "[users.ada\n": "line 1",
    "[user.ada]\n": 'line 1: unknown "user"',
    'users = "ada"\n': "line 1: users must be tables",
    "[users]\nada = 1\n": "line 2: ada must be a table",
    "[groups.team]\nfolders = ['/x']\n[users.ada]\nfolders = ['/x']\n": "line 3: ada needs token_sha256",
    "[users.ada]\ntoken_sha256 = 'abc'\n": "line 2: ada needs token_sha256",
    f"[users.ada]\ntoken_sha256 = '{DIGEST.upper()}'\n": "line 2: ada needs token_sha256",
    users("folder = ['/x']"): 'line 3: unknown key "folder" of ada; allowed are token_sha256, folders',
    users("folders = '/x'"): "line 3: folders must be a list of paths",
    users("folders = ['x/y']"): "line 3: the folder 'x/y' must be an absolute path",
    users("", "folders = [1]"): "line 4: folders must be a list",
    users("groups = ['team']"): "line 3: ada is in group 'team', which is missing; add",
    users("groups = 'team'"): "line 3: groups of ada must be a list",
    users("expires = 'soon'"): "line 3: expires must be a date or a time",
    users("expires = 5"): "line 3: expires must be a date or a time",
    users(name='"../ada"'): "line 1: '../ada' is no name",
    users() + "\n" + users(name="ben"): "line 5: ben has the token of ada",
    "[groups.team]\nfolder = ['/x']\n": 'line 2: unknown key "folder" of team',
    "a = " + "[" * 5000: "nested too deep",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_is_an_error_with_its_line_and_grants_nobody_anything(text: str, tmp_path: Path) -> None:
    good = users("folders = ['/x']", name="zoe").replace(DIGEST, digest_of("z")) if "users = " not in text else ""
    with pytest.raises(AccessFileError) as error:
        parse(text, FILE)
    assert WRONG[text] in str(error.value) and "nobody gets in" in str(error.value)
    file = tmp_path / "access.toml"
    file.write_text(text + "\n" + good, encoding="utf-8")
    assert AccessFile(file).grants() == Grants()


def test_the_file_is_read_again_when_it_changes_and_forgotten_when_it_breaks(tmp_path: Path) -> None:
    file = tmp_path / "access.toml"
    access = AccessFile(file)
    assert access.grants().users == {}
    file.write_text(users("folders = ['/x']"), encoding="utf-8")
    assert list(access.grants().users) == ["ada"]
    file.write_text(users("folders = ['/y']"), encoding="utf-8")
    assert access.grants().users["ada"].folders == ("/y",)
    file.write_text(users("folders = ['/y'"), encoding="utf-8")
    assert access.grants() == Grants()
    file.unlink()
    assert access.grants() == Grants()


@pytest.mark.skipif(os.name != "posix", reason="limits of a process")
def test_a_file_that_could_not_be_opened_for_want_of_descriptors_counts_again_without_a_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import resource

    file = tmp_path / "access.toml"
    file.write_text(users("folders = ['/x']"), encoding="utf-8")
    access = AccessFile(file)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert [access.grants(), access.grants()] == [Grants(), Grants()]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(access.grants().users) == ["ada"]
    assert len(caplog.records) == 1, "said once"


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_file_that_others_can_change_grants_nobody_anything(tmp_path: Path) -> None:
    file = tmp_path / "access.toml"
    file.write_text(users("folders = ['/x']"), encoding="utf-8")
    access = AccessFile(file)
    assert access.grants().users
    file.chmod(0o666)
    assert not access.grants().users
    with pytest.raises(AccessFileError, match="other users can change it"):
        read_text(file)


def test_a_file_that_is_none_or_too_large_is_refused(tmp_path: Path) -> None:
    big = tmp_path / "big.toml"
    big.write_bytes(b"#" * (1024 * 1024 + 1))
    for file in (big, tmp_path):
        with pytest.raises(AccessFileError, match="nobody gets in"):
            read_text(file)


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("1970-01-01", 86_400.0),
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T00:01:00", 60.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
    ],
)
def test_a_day_counts_to_its_end_and_a_time_without_zone_is_utc(written: str, at: float) -> None:
    assert moment(written) == at
    as_toml = parse(users("folders = ['/x']", f"expires = {written}"), FILE)
    assert as_toml.users["ada"].expires == at
