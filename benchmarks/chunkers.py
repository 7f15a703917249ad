"""Our chunker against two known splitters in one run: ``python benchmarks/chunkers.py FILE...``.

Needs ``semantic-text-splitter`` (a dependency) and, for its column, ``langchain-text-splitters``. All three count with
the embedded model's own tokenizer and get the same limit; ours is measured with the remembered words of
``indexer.models.tokenizer`` and without. For each: speed, chunks, the share over the window, and how
many chunks are new (would be embedded again) after an edit of one line, at random lines of every file.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from indexer.documents.formats import by_name
from indexer.models.locate import Located, find
from indexer.models.tokenizer import Tokens
from indexer.text.chunk import TokenCounter, chunk
from indexer.text.structure import LANGUAGES
from indexer.types import Document, Unit

Cut = Callable[[str, str], list[str]]
"""Path and text to chunks, as the model would get them."""


class Counted:
    """The model's tokenizer."""

    def __init__(self, path: str) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(path)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def starts(self, text: str) -> list[int]:
        return [start for start, _ in self.tokenizer.encode(text, add_special_tokens=False).offsets]

    def count(self, text: str) -> int:
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)


def remembering(tokens: Counted, limit: int) -> Cut:
    return ours(Tokens(tokens.tokenizer, limit, ""), limit)


def ours(tokens: TokenCounter, limit: int) -> Cut:
    def cut(path: str, text: str) -> list[str]:
        kind = by_name(path)
        document = Document((Unit("lines", "", text),), kind.syntax if kind else "text", "plain/1")
        return [piece.passage for piece in chunk(document, tokens, limit)]

    return cut


def semantic(tokens: Counted, limit: int) -> Cut:
    from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter

    from indexer.text.structure import grammar

    def cut(path: str, text: str) -> list[str]:
        kind = by_name(path)
        syntax = kind.syntax if kind else "text"
        if syntax == "markdown":
            return MarkdownSplitter.from_huggingface_tokenizer(tokens.tokenizer, limit).chunks(text)
        if syntax in LANGUAGES:
            return CodeSplitter.from_huggingface_tokenizer(grammar(syntax), tokens.tokenizer, limit).chunks(text)
        return TextSplitter.from_huggingface_tokenizer(tokens.tokenizer, limit).chunks(text)

    return cut


def langchain(tokens: Counted, limit: int) -> Cut:
    from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

    by_syntax = {
        "markdown": Language.MARKDOWN,
        "rst": Language.RST,
        "python": Language.PYTHON,
        "latex": Language.LATEX,
    }

    def cut(path: str, text: str) -> list[str]:
        kind = by_name(path)
        arguments = {"chunk_size": limit, "chunk_overlap": 0, "length_function": tokens.count}
        language = by_syntax.get(kind.syntax) if kind else None
        if language is None:
            return RecursiveCharacterTextSplitter(**arguments).split_text(text)
        return RecursiveCharacterTextSplitter.from_language(language, **arguments).split_text(text)

    return cut


def edited(path: str, text: str, chance: random.Random) -> str:
    """One line changed, deleted, or added, at random; in Python as a comment, so that it stays a program."""
    lines = text.split("\n")
    at = chance.randrange(len(lines))
    kind = chance.randrange(3)
    mark = "  # " if path.endswith(".py") else " "
    if kind == 0:
        lines[at] += f"{mark}changed words here"
    elif kind == 1:
        del lines[at]
    else:
        indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
        lines.insert(at, f"{indent}{mark.strip()} a new sentence that was not there before.")
    return "\n".join(lines)


def measure(name: str, cut: Cut, texts: dict[str, str], tokens: Counted, limit: int, edits: int) -> str:
    began = time.process_time()  # all of them work on one thread, and the machine may be busy
    pieces = {path: cut(path, text) for path, text in texts.items()}
    took = time.process_time() - began
    every = [piece for found in pieces.values() for piece in found]
    counts = [tokens.count(piece) for piece in every]
    over = sum(count > limit for count in counts)
    chance, new = random.Random(7), []
    for path, text in texts.items():
        known = {hashlib.sha1(piece.encode()).digest() for piece in pieces[path]}
        for _ in range(edits):
            again = cut(path, edited(path, text, chance))
            new.append(sum(hashlib.sha1(piece.encode()).digest() not in known for piece in again))
    size = sum(len(text.encode()) for text in texts.values())
    return (
        f"| {name} | {size / took / 1e6:.2f} | {len(every)} | {statistics.mean(counts):.0f} | {over} | "
        f"{statistics.mean(new):.2f} | {sorted(new)[int(0.95 * len(new))]} | {max(new)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--limit", type=int, default=254, help="tokens the model sees, special ones not counted")
    parser.add_argument("--edits", type=int, default=5, help="edits a file")
    chosen = parser.parse_args()
    model = find("all-MiniLM-L6-v2")
    assert isinstance(model, Located)
    tokens = Counted(f"{model.directory}/tokenizer.json")
    texts = {str(path): path.read_text(encoding="utf-8") for path in chosen.files}
    print(f"{len(texts)} files, {sum(map(len, texts.values())) / 1e6:.2f} M characters, limit {chosen.limit} tokens")
    print(
        "| chunker | MB/s | chunks | mean tokens | over the window | new a line edited | p95 | max |\n|" + "---|" * 8
    )
    makes = (
        ("ours", remembering),
        ("ours, every text tokenized", ours),
        ("semantic-text-splitter", semantic),
        ("langchain", langchain),
    )
    for name, make in makes:
        try:
            cut = make(tokens, chosen.limit)
        except ImportError as error:
            print(f"| {name} | {error} |")
            continue
        print(measure(name, cut, texts, tokens, chosen.limit, chosen.edits), flush=True)


if __name__ == "__main__":
    main()
