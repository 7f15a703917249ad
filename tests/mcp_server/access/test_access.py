"""What may be seen: paths, folders, and the decision on a request."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fakes_engine import FakeEngine
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken

from indexer.folders.registry import KnownFolder
from mcp_server.access.access import Access, VisibleFolder, is_within, visible_folders
from mcp_server.access.fenced_engine import FencedEngine
from mcp_server.access.fenced_status import quotes_path
from mcp_server.access.request import access_of, default_folders, view_now, view_of
from mcp_server.engine_port import ConnectionContext


class GrantedToken(AccessToken):
    access: Access


def request(context: ConnectionContext, access: Access | None = None, *, user: bool = True) -> Any:
    """A request over HTTP, with a token of this access; without a user it is one of this machine's own."""
    token: AccessToken = AccessToken(token="t", client_id="c", scopes=[])
    if access is not None:
        token = GrantedToken(token="t", client_id="c", scopes=[], access=access)
    web = SimpleNamespace(scope={"user": AuthenticatedUser(token)}) if user else None
    session = SimpleNamespace(client_params=None)
    return SimpleNamespace(lifespan_context=context, request=web, session=session)


@pytest.mark.parametrize(
    ("path", "folder", "inside"),
    [
        ("/a/b", "/a/b", True),
        ("/a/b/c.md", "/a/b", True),
        ("/a/b/c.md", "/a/b/", True),
        ("/a/b/", "/a/b", True),
        ("/a/bc", "/a/b", False),
        ("/a", "/a/b", False),
        ("/a/b/../c", "/a/b", False),
        ("/a/b..c/d", "/a/b..c", True),
        ("/A/b", "/a/b", False),
        ("/a/b", "/", True),
        ("", "/a", False),
    ],
)
def test_a_path_is_within_a_folder_by_its_parts(path: str, folder: str, inside: bool) -> None:
    assert is_within(path, folder) is inside


def test_access_to_two_sets_of_folders_is_what_both_have() -> None:
    access = Access(user="anna", folders=("/a", "/b/c"))
    assert access.narrowed(("/a/x", "/b", "/d")).folders == ("/b/c", "/a/x")
    assert access.narrowed(()).folders == ()
    assert Access().narrowed(("/a",)).folders == ("/a",)
    assert access.narrowed(("/a",)).user == "anna"


def test_what_is_seen_of_the_indexed_folders_is_whole_or_a_part() -> None:
    one, two, three = KnownFolder("/s/one"), KnownFolder("/s/two"), KnownFolder("/t")
    access = Access(folders=("/s/one", "/s/two/in/", "/s/two/in/deep", "/s/two/other", "/elsewhere"))
    seen = visible_folders(access, [one, two, three])
    assert [(each.path, each.below) for each in seen] == [
        ("/s/one", ""), ("/s/two/in", "in"), ("/s/two/other", "other"),
    ]  # fmt: skip
    assert [each.path for each in visible_folders(Access(folders=("/s",)), [one, two, three])] == ["/s/one", "/s/two"]
    assert visible_folders(Access(folders=()), [one]) == ()
    assert visible_folders(Access(), [one]) == (VisibleFolder("/s/one", one),)


@pytest.mark.parametrize(
    ("text", "quotes"),
    [
        ("/mine/a is still being read", False),
        ("/mine is away", False),
        ("/minefield/a is away", True),
        ("cannot open '/etc/x'", True),
        ("see https://example.org/a and and/or 1/2", False),
        ("file:///x", True),
        ("no path at all", False),
    ],
)
def test_a_text_that_names_another_path_is_known(text: str, quotes: bool) -> None:
    assert quotes_path(text, ["/mine"]) is quotes


def test_the_user_of_this_machine_sees_everything_and_gets_the_engine_itself(engine: FakeEngine) -> None:
    context = ConnectionContext(engine, notices=["one"])
    view = view_now(request(context, user=False))
    assert view.engine is engine
    assert (view.access, view.notices) == (Access(), ("one",))


def test_a_token_decides_for_each_request_and_one_that_says_nothing_shows_nothing(engine: FakeEngine) -> None:
    context = ConnectionContext(engine, notices=["/other cannot be read"])
    view = view_now(request(context, Access(user="anna", folders=("/a",))))
    assert isinstance(view.engine, FencedEngine)
    assert (view.access.user, view.access.folders, view.notices) == ("anna", ("/a",), ())
    assert access_of(request(context)).folders == ()


def test_over_http_who_is_not_known_by_a_token_sees_nothing(engine: FakeEngine) -> None:
    context = ConnectionContext(engine, by_token=True)
    assert access_of(request(context, user=False)).folders == ()
    assert access_of(request(context, Access(user="owner"))).folders is None
    stranger = SimpleNamespace(**{**vars(request(context)), "request": SimpleNamespace(scope={})})
    assert access_of(stranger).folders == ()


def test_a_token_cannot_see_past_the_limits_of_its_connection(engine: FakeEngine) -> None:
    context = ConnectionContext(engine, only=True, limits=("/a/x",))
    assert access_of(request(context, Access(folders=("/a", "/b")))).folders == ("/a/x",)
    assert access_of(request(context, Access())).folders == ("/a/x",)
    assert access_of(request(ConnectionContext(engine, only=True), Access())).folders == ()


async def test_until_limits_are_known_nothing_is_seen_and_a_search_waits(engine: FakeEngine) -> None:
    context = ConnectionContext(engine, named=True, only=True)
    assert list(view_now(request(context, user=False)).engine.folders()) == []
    with pytest.raises(Exception, match="still being looked at"):
        await view_of(request(context, user=False), 0.0)
    context.limits = (engine.folders()[0].path,)
    context.ready.set()
    view = await view_of(request(context, user=False))
    assert [folder.path for folder in view.engine.folders()] == [engine.folders()[0].path]


async def test_folders_that_a_server_searches_by_default_are_cut_to_what_a_user_may_see(engine: FakeEngine) -> None:
    mine = engine.folders()[0].path
    context = ConnectionContext(engine, named=True, folders=[mine, "/elsewhere"])
    context.ready.set()
    for folders, found in (((mine,), (mine,)), (("/elsewhere",), None)):
        asked = request(context, Access(folders=folders))
        assert await default_folders(asked, view_now(asked)) == found
