"""Draw a quote and its place from each file of a directory: ``python benchmarks/quotes.py DIR [SEED] > MANIFEST.tsv``.

Independent of the libraries that the indexer uses: the standard library's zip, XML, HTML and mail parsers, the raw
lines of text files, and ``pypdf`` for PDF where it is installed. A file from which nothing can be drawn is listed
without a quote: it is tried all the same.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
import sys
import zipfile
from collections.abc import Iterator
from email import message_from_bytes, policy
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

PARTS = {
    "docx": (r"word/document\.xml", r"<w:p[ >].*?</w:p>", r"<w:t(?: [^>]*)?>([^<]*)</w:t>"),
    "pptx": (r"ppt/slides/slide\d+\.xml", r"<a:p>.*?</a:p>", r"<a:t>([^<]*)</a:t>"),
    "xlsx": (r"xl/sharedStrings\.xml", r"<si>.*?</si>", r"<t(?: [^>]*)?>([^<]*)</t>"),
    "odt": (r"content\.xml", r"<text:[ph][ >].*?</text:[ph]>", r">([^<]*)<"),
    "ods": (r"content\.xml", r"<text:p[ >].*?</text:p>", r">([^<]*)<"),
    "odp": (r"content\.xml", r"<text:p[ >].*?</text:p>", r">([^<]*)<"),
    "epub": (r".*\.x?html?", r"<p[ >].*?</p>", r">([^<]*)<"),
}


class Paragraphs(HTMLParser):
    """The texts of ``p`` elements without markup inside."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._held: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._held = [] if tag == "p" else self._held if tag in ("em", "strong", "b", "i") else None

    def handle_endtag(self, tag: str) -> None:
        if tag == "p" and self._held is not None:
            self.found.append("".join(self._held))
            self._held = None

    def handle_data(self, data: str) -> None:
        if self._held is not None:
            self._held.append(data)


def paragraphs(path: Path) -> Iterator[tuple[str, str]]:
    """Paragraphs of a file, each with its place as the manifest writes it."""
    kind = path.suffix.lower().lstrip(".")
    if kind in PARTS:
        name, block, run = PARTS[kind]
        with zipfile.ZipFile(path) as archive:
            for part in archive.namelist():
                if re.fullmatch(name, part):
                    text = archive.read(part).decode("utf-8", "replace")
                    text = re.sub(r"<(?:a|w):br[ />]", r"<a:t> </a:t><w:t> </w:t>\g<0>", text)
                    for found in re.findall(block, text, re.DOTALL):
                        yield unescape("".join(re.findall(run, found))), ""
    elif kind == "pdf":
        from pypdf import PdfReader

        for number, page in enumerate(PdfReader(path).pages[:40], 1):
            for line in page.extract_text().split("\n"):
                yield line, f"p{number}"
    elif kind in ("html", "htm"):
        parser = Paragraphs()
        parser.feed(path.read_text(encoding="utf-8", errors="replace"))
        yield from ((text, "") for text in parser.found)
    elif kind == "eml":
        body = message_from_bytes(path.read_bytes(), policy=policy.default).get_body(("plain",))
        yield from ((line, "") for line in (body.get_content().split("\n") if body is not None else ()))
    elif kind in ("txt", "md", "rst", "tex", "py", "xml", "json", "css", "js", "csv", "toml", "cfg", "adoc"):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            yield line, f"L{number}"


def quote(path: Path, chance: random.Random) -> tuple[str, str]:
    """One paragraph's first twelve words, chosen by chance among those of at least five; empty if there is none."""
    try:
        found = [(text, place) for text, place in paragraphs(path) if len(re.findall(r"\w+", text)) >= 5]
    except Exception as error:
        sys.stderr.write(f"{path.name}: {type(error).__name__}: {error}\n")
        return "", ""
    if not found:
        return "", ""
    text, place = chance.choice(found)
    return " ".join(" ".join(text.split()).split(" ")[:12]), place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("seed", nargs="?", default="1")
    args = parser.parse_args()
    directory, seed = args.directory, args.seed
    out = csv.writer(sys.stdout, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, escapechar="\\")
    out.writerow(["file", "kind", "expected_text", "locator_or_expectation"])
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name != "MANIFEST.tsv":
            text, place = quote(path, random.Random(f"{seed} {path.name}"))
            out.writerow([str(path.relative_to(directory)), "real", text.replace("\t", " "), place])


if __name__ == "__main__":
    main()
