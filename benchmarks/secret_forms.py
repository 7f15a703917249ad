"""Secrets found, missed and wrongly found: ``python benchmarks/secret_forms.py [--data DIR] [--each 14]``.

Made-up secrets of every kind stand in notes, code, Office files, mails and notebooks of a folder that is indexed by
the real program without a model. A secret is missed when a search for the words beside it, or reading its file, shows
it; its passage is lost when the words beside it are not found. A second folder has 2,000 passages without secrets:
prose (of ``--data``, a directory of question sets), code, lock files, hashes, minified JavaScript and embedded
pictures; what is blanked there is a false alarm. Only what a client sees is used, so it runs on earlier versions too.
"""

from __future__ import annotations

import argparse
import base64
import email.message
import gzip
import json
import random
import re
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "support"), str(Path(__file__).parents[1])]

from documents import docx, pptx, xlsx
from fakes import FakeLoader
from made_up_secrets import ALNUM, HEX, MadeUp, made_up, pick

from indexer.config import load_config
from indexer.engine import Engine, open_engine
from indexer.errors import QueryError
from indexer.types import Query

NO_MODEL = "no/model"
"""Not on this machine: the folder is indexed for search by word."""
CONTAINERS = ("md", "py", "docx", "xlsx", "pptx", "eml", "ipynb")
WITHOUT = 2_000
"""Passages without secrets."""


def marks(number: int) -> tuple[str, str]:
    """Two words that stand before and after a secret and nowhere else."""
    return f"wombat{number}x", f"narwhal{number}x"


def contain(container: str, number: int, made: MadeUp) -> bytes:
    """A file of a format with one secret in it, between two words."""
    before, after = marks(number)
    lines = made.text.split("\n")
    if container == "py":
        quoted = f'"""{made.text}"""' if len(lines) > 1 else repr(made.text) if made.code else f"# {made.text}"
        body = f"import os\n\n# the {before} uses this\n{quoted}\n\n\ndef {after}():\n    return os.getcwd()\n"
        return body.encode()
    text = f"The {before} needs it.\n\n{made.text}\n\nThe {after} has the other half.\n"
    if container == "docx":
        return docx([(0, line) for line in text.split("\n")])
    if container == "xlsx":
        return xlsx({"Accounts": [["who", "what"], [before, "here"], *([line, ""] for line in lines), [after, "end"]]})
    if container == "pptx":
        return pptx([("Access", f"{before}\n{made.text}"), ("More", after)])
    if container == "eml":
        message = email.message.EmailMessage()
        message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", "access"
        message.set_content(text)
        return message.as_bytes()
    if container == "ipynb":
        output = {"output_type": "stream", "name": "stdout", "text": [f"{made.text}\n", after]}
        cell = {"cell_type": "code", "source": [f"print('{before}')"], "metadata": {}, "outputs": [output]}
        return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()
    return text.encode()


# Passages without secrets -------------------------------------------------------------------------------------------


def prose(data: Path) -> Iterator[str]:
    for file in sorted(data.rglob("corpus.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line in lines]
        yield from (text for text in texts if text.strip())


def machine_made(kind: str, chance: random.Random) -> str:
    """A passage of code, a lock file or the like, with the things that look most like secrets."""
    templates = {
        "package-lock": '"node_modules/{name}": {{\n  "version": "1.{n}.0",\n  "resolved": "https://registry.example.org/'
        '{name}/-/{name}-1.0.0.tgz",\n  "integrity": "sha512-{digest}"\n}},',
        "uv.lock": '[[package]]\nname = "{name}"\nversion = "2.1.{n}"\nsdist = {{ url = "https://files.example.org/'
        '{name}.tar.gz", hash = "sha256:{hex64}", size = 48211 }}',
        "git log": "commit {hex40}\nAuthor: {name} <{name}@example.org>\n\n    token: rename fields",
        "uuid": "request_id: {uuid}\nsession: {uuid}",
        "picture": "![plot](data:image/png;base64,{picture})",
        "minified": "!function(e,t){{var {body};e.password=t.password;e.apiKey=t.getKey()}}(this,window);",
        "configuration": "password: ********\napi_key: <your-key>\ntoken: ${{TOKEN}}\nsecret_name: {name}\n"
        "DB_PASSWORD=changeme\nurl: https://user:password@example.org\nmax_tokens: 4096\nkey: {name}\n"
        "password: required",
        "code": "def check_{name}(password: str, token: Token | None = None) -> bool:\n"
        "    secret = os.environ['{name}']\n    api_key = settings.api_key\n"
        "    key = sha256(password.encode()).hexdigest()\n"
        "    return compare(token, key) and password == confirm_password",
    }
    return templates[kind].format(
        name=pick(chance, "abcdefghijklmnop", 8),
        n=chance.randrange(99),
        digest=base64.b64encode(chance.randbytes(64)).decode(),
        hex40=pick(chance, HEX, 40),
        hex64=pick(chance, HEX, 64),
        uuid=uuid.UUID(bytes=chance.randbytes(16)),
        picture=base64.b64encode(chance.randbytes(600)).decode(),
        body=",".join(f"{pick(chance, ALNUM, 2)}=function(e){{return token}}" for _ in range(20)),
    )


MACHINE = ("package-lock", "uv.lock", "git log", "uuid", "picture", "minified", "configuration", "code")


def without_secrets(data: Path | None, count: int) -> list[tuple[str, str]]:
    """``count`` passages (kind, text), half of them prose where there is any."""
    chance = random.Random(7)
    texts = list(prose(data)) if data else []
    chance.shuffle(texts)
    out = [("prose", text) for text in texts[: count // 2]]
    while len(out) < count:
        kind = MACHINE[len(out) % len(MACHINE)]
        out.append((kind, machine_made(kind, chance)))
    return out


# The run ------------------------------------------------------------------------------------------------------------


async def shown(engine: Engine, path: Path, words: tuple[str, str]) -> tuple[str, str, bool]:
    """What searches for the words show of a file, what reading shows, and whether the second word was found."""
    found, last = "", False
    for word in words:
        answer = await engine.search(Query(word, mode="keyword", context=3, max_chars=20_000))
        mine = [hit for hit in answer.hits if hit.path == str(path)]
        found += "\n".join(f"{hit.heading}\n{hit.snippet}\n{hit.locator}" for hit in mine)
        last = bool(mine)
    read, locator = "", None
    with anyio.move_on_after(60):
        while True:
            try:
                reading = await engine.read(str(path), locator, max_chars=100_000)
            except QueryError as error:
                read += str(error)
                break
            read += "\n" + reading.text
            if not reading.next:
                break
            locator = reading.next
    return found, read, last


def alarms(engine: Engine) -> dict[str, int]:
    """Path -> how many secrets, or passages with secrets, the status counts in it."""
    problems = [one for folder in engine.status(verbose=True).folders for one in folder.problems]
    return {
        one.path: int(match[1])
        for one in problems
        if (match := re.match(r"(\d+) (?:secrets? blanked|passages with secrets)", one.reason))
    }


async def measure(data: Path | None, each: int, place: Path) -> None:
    secrets, cases = made_up(each), []
    (place / "with").mkdir()
    (place / "without").mkdir()
    for number, made in enumerate(secrets):
        container = CONTAINERS[number % len(CONTAINERS)]
        path = place / "with" / f"f{number}.{container}"
        path.write_bytes(contain(container, number, made))
        cases.append((container, path, made, marks(number)))
    passages = without_secrets(data, WITHOUT)
    for number, (kind, text) in enumerate(passages):
        suffix = {"code": "py", "minified": "js", "uv.lock": "toml", "package-lock": "json"}.get(kind, "md")
        (place / "without" / f"{number}-{kind.replace(' ', '-')}.{suffix}").write_text(text, encoding="utf-8")
    config = load_config(None, data_dir=place / "data", environ={})
    config = replace(config, model=replace(config.model, default=NO_MODEL), index=replace(config.index, watch=False))
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    by_container: dict[str, Counter[str]] = defaultdict(Counter)
    async with open_engine(config, version="benchmark", loader=FakeLoader()) as engine:
        for name in ("with", "without"):
            await engine.add_folder(str(place / name))
        began = time.perf_counter()
        await engine.index()
        print(f"indexed in {time.perf_counter() - began:.1f} s")
        for container, path, made, words in cases:
            in_search, in_read, last = await shown(engine, path, words)
            result = Counter(
                all=1,
                missed_in_search=made.secret in in_search,
                missed_in_read=made.secret in in_read,
                passage_lost=not last,
            )
            by_kind[made.kind] += result
            by_container[container] += result
        found = {path: count for path, count in alarms(engine).items() if "/without/" in path}
    table("kind", by_kind)
    table("container", by_container)
    wrong: Counter[str] = Counter()
    for path in found:
        wrong[Path(path).stem.partition("-")[2]] += 1
    print(f"\n{len(passages)} passages without secrets: false alarms in {len(found)} {dict(wrong)}")
    for path in list(found)[:10]:
        print("  ", Path(path).name)


def table(name: str, counts: dict[str, Counter[str]]) -> None:
    columns = ("all", "missed_in_search", "missed_in_read", "passage_lost")
    print(f"\n{name:24}" + "".join(f"{column:>18}" for column in columns))
    total: Counter[str] = Counter()
    for each, count in counts.items():
        total += count
        print(f"{each:24}" + "".join(f"{count[column]:18}" for column in columns))
    print(f"{'together':24}" + "".join(f"{total[column]:18}" for column in columns))


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--data", type=Path, help="directory of question sets (corpus.jsonl.gz)")
    options.add_argument("--each", type=int, default=14, help="secrets of each kind")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        anyio.run(measure, chosen.data, chosen.each, Path(place).resolve())


if __name__ == "__main__":
    main()
