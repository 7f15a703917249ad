"""``access``: access tokens for ``serve --http``, each for some folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, Field

from indexer.errors import ConfigError, FolderMcpError
from indexer.folders.registry import list_folders
from mcp_server.access.access import is_within
from mcp_server.access.access_file import ACCESS_FILE, NAME, AccessFileError, Grant, moment, parse, read_text
from mcp_server.access.tokens import digest_of, new_token
from mcp_server.cli import console
from mcp_server.cli.call import Call
from mcp_server.clients.edit import put_entry, remove_entry
from mcp_server.clients.entry import ClientError
from mcp_server.record.reading import last_answers


class AccessRecord(BaseModel):
    """One token, without anything that would let somebody in."""

    name: str
    folders: list[str] = Field(description="Absolute paths that it may see, those of its groups included.")
    groups: list[str]
    created: str
    expires: str | None
    expired: bool
    last_used: str | None = Field(description="The last answer in the record; null when the record has none.")


class AccessList(BaseModel):
    """All tokens but the owner's own."""

    users: list[AccessRecord]
    groups: dict[str, list[str]]


class NewAccess(BaseModel):
    """A token that has just been made."""

    name: str
    token: str = Field(description="Shown this once; only its SHA-256 is kept.")
    folders: list[str]
    expires: str | None


def run_access(call: Call) -> int:
    """``folder-mcp access [list | add | remove]``."""
    if call.args.action == "add":
        return _add(call)
    if call.args.action == "remove":
        return _remove(call)
    return _list(call)


def _add(call: Call) -> int:
    args, file = call.args, call.config.data_dir / ACCESS_FILE
    if not NAME.fullmatch(args.name):
        raise ConfigError(f"{args.name[:80]!r} is no name for a token; take letters, digits, - and _, 64 at most")
    if not args.folder and not args.group:
        raise ConfigError(
            f"say what {args.name} may see: --folder FOLDER, or --group TEAM; each may be given more than once"
        )
    expires = _expiry(args.expires) if args.expires else None
    token = new_token()
    entry: dict[str, object] = {"token_sha256": digest_of(token), "created": _written(datetime.now(UTC))}
    if args.folder:
        entry["folders"] = [_folder(one) for one in args.folder]
    if args.group:
        entry["groups"] = list(dict.fromkeys(args.group))
    if expires:
        entry["expires"] = _written(expires)

    def add(text: str) -> str:
        if args.name in parse(text, file).users:
            raise ConfigError(
                f"there is a token for {args.name} already; folder-mcp access remove {args.name} ends it"
            )
        return put_entry("toml", text, ["users", args.name], entry)

    grant = parse(change_file(file, add), file).users[args.name]
    if args.json:
        new = NewAccess(name=grant.name, token=token, folders=list(grant.folders), expires=_time(grant.expires))
        console.json_document(new)
        return 0
    console.say(token)
    console.note(f"The token of {grant.name}, shown only this once. Clients send it as a header; it works at once:")
    console.note("    Authorization: Bearer TOKEN")
    console.note("It sees " + ", ".join(grant.folders) + (f" until {_time(grant.expires)}." if expires else "."))
    indexed = [folder.path for folder in list_folders(call.config).known]
    for folder in grant.folders:
        if not any(is_within(folder, root) or is_within(root, folder) for root in indexed):
            console.note(f"{folder} is not indexed: folder-mcp folders add {folder}")
    return 0


def _remove(call: Call) -> int:
    name, file = call.args.name, call.config.data_dir / ACCESS_FILE

    def remove(text: str) -> str:
        users = parse(text, file).users
        if name not in users:
            raise ConfigError(f"there is no token for {name!r}; there are {', '.join(users) or 'none'}")
        return remove_entry("toml", text, ["users", name])

    change_file(file, remove)
    if call.args.json:
        _list(call)
    else:
        console.say(f"removed {name}; its token does not count any more, in a running server neither")
    return 0


def _list(call: Call) -> int:
    file = call.config.data_dir / ACCESS_FILE
    grants = parse(read_text(file), file)
    used = last_answers(call.config.data_dir)
    now = datetime.now(UTC).timestamp()
    found = AccessList(
        users=[_record(grant, now, used.get(grant.name)) for grant in grants.users.values()],
        groups={name: list(folders) for name, folders in grants.groups.items()},
    )
    if call.args.json:
        console.json_document(found)
    else:
        console.say(_text(found))
    return 0


def _record(grant: Grant, now: float, used: float | None) -> AccessRecord:
    return AccessRecord(
        name=grant.name,
        folders=list(grant.folders),
        groups=list(grant.groups),
        created=grant.created,
        expires=_time(grant.expires),
        expired=grant.expires is not None and grant.expires <= now,
        last_used=_time(used),
    )


def _text(found: AccessList) -> str:
    lines = []
    for user in found.users:
        until = f"{'expired' if user.expired else 'until'} {user.expires}" if user.expires else "does not expire"
        groups = f" ({', '.join(user.groups)})" if user.groups else ""
        lines.append(f"{user.name}{groups}  {until}, last used {user.last_used or 'unknown'}")
        lines += [f"    {folder}" for folder in user.folders] or ["    nothing"]
    for name, folders in found.groups.items():
        lines.append(f"group {name}")
        lines += [f"    {folder}" for folder in folders] or ["    nothing"]
    return "\n".join(lines or ["no tokens but the owner's own: folder-mcp access add NAME --folder FOLDER"])


def _folder(name: str) -> str:
    folder = os.path.realpath(os.path.expanduser(name))
    if not os.path.isdir(folder):
        raise ConfigError(f"{name}: there is no such folder; give one that exists")
    return folder


def _expiry(text: str) -> datetime:
    """Return the moment of ``--expires``: a day counts to its end here, a time without zone is local."""
    try:
        if len(text) == 10:
            expires = datetime.fromisoformat(text).astimezone() + timedelta(days=1)
        else:
            expires = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise ConfigError(f"--expires {text}: no date; write 2026-12-31 or 2026-12-31T18:00") from None
    if expires <= datetime.now(UTC):
        raise ConfigError(f"--expires {text}: that is over; give a day that is to come")
    return expires


def _written(when: datetime) -> str:
    text = when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    moment(text)
    return text


def _time(when: float | None) -> str | None:
    return None if when is None else datetime.fromtimestamp(when).astimezone().isoformat(timespec="minutes")


# Writing ------------------------------------------------------------------------------------------------------------


def change_file(file: Path, change: Callable[[str], str]) -> str:
    """Replace the file in one step by what ``change`` makes of its text; returns that. One process at a time.

    Raises:
        AccessFileError: The file is wrong, now or as it would be; it stays as it is.
        FolderMcpError: It cannot be written, or another command is at it.
    """
    file = Path(os.path.realpath(file))  # a link stays one
    new = file.with_name(file.name + ".new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise FolderMcpError(f"another command is writing {file}; if none is, delete {new}") from None
    except OSError as error:
        raise FolderMcpError(f"{new}: cannot be written ({error.strerror}); {file.name} stays as it is") from error
    try:
        with os.fdopen(fd, "w", encoding="utf-8", newline="") as stream:
            text = change(read_text(file))
            parse(text, file)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(new, file)
    except ClientError as error:
        raise AccessFileError(f"{file}: {error}; change it by hand") from error
    except OSError as error:
        raise FolderMcpError(f"{file}: cannot be written ({error.strerror}); it stays as it is") from error
    finally:
        with suppress(FileNotFoundError):
            new.unlink()
    return text
