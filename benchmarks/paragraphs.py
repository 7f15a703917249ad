"""What a short chunk gains from its paragraph's words: exact BM25 over the program's own chunks and tokens.

    python benchmarks/paragraphs.py --data DIR [--data DIR ...] [--join 12] [--characters 600,800,1000,1200]

Sets as in ``quality.py``, all queries. Documents are cut with the embedded model's tokenizer and searched by their own
tokens; a document's rank is that of its best chunk among the first 100. Beside bm25s over whole documents: chunks
alone, then with their paragraph's words, their own counted once and twice, for several lengths (a chunk is short below
half of one). ``--join`` makes files of so many documents, to see what is lost at the borders of paragraphs; a chunk
then stands for the document that its middle lies in. Needs bm25s.
"""

from __future__ import annotations

import argparse
import os
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from quality import DEPTH, Set, bm25, difference, measures, read_set

from indexer.config import ModelSettings
from indexer.models.spec import resolve
from indexer.models.tokenizer import Tokens, open_tokenizer
from indexer.text import chunk as chunk_module
from indexer.text.chunk import chunk
from indexer.text.language import detect
from indexer.text.tokens import tokens, weighted_tokens
from indexer.types import Chunk, Document, Unit


@dataclass(frozen=True)
class Cut:
    """A file cut: its chunks, which document of the set each stands for, and its language."""

    document: Document
    chunks: tuple[Chunk, ...]
    stands_for: list[str]
    name: str
    language: str


def cut(test: Set, join: int, tokenizer: Tokens) -> list[Cut]:
    ids = list(test.documents)
    files = []
    for first in range(0, len(ids), join):
        members, text, starts = ids[first : first + join], "", list[int]()
        for member in members:
            starts.append(len(text))
            text += test.documents[member] + ("\n\n" if join > 1 else "")
        document = Document((Unit("lines", "", text),), "text", "plain/1")
        chunks = chunk(document, tokenizer, tokenizer.limit)
        stands_for, end = [], 0
        for piece in chunks:
            start = text.index(piece.text, end)
            end = start + len(piece.text)
            stands_for.append(members[bisect_right(starts, (start + end) // 2) - 1])
        language = detect("\n".join(piece.text for piece in chunks[:8]))
        files.append(Cut(document, chunks, stands_for, f"{first:06d}.txt", language))
    return files


def searched(file: Cut, own: int) -> list[list[str]]:
    """Each chunk's tokens: alone (0), or with its paragraph's, its own counted once or twice."""
    around = chunk_module.surroundings(file.document, file.chunks)
    found = []
    for piece, near in zip(file.chunks, around, strict=True):
        words = tokens(piece.text, piece.heading, file.name, file.language).split()
        if own and near.texts:
            for text in (*near.texts, *[piece.text] * (own - 1)):
                words += tokens(text, language=file.language).split()
        found.append(words)
    return found


def ranked(test: Set, files: list[Cut], own: int) -> tuple[dict[str, list[str]], int]:
    """Documents of each query, best first, and how many tokens the index holds."""
    import bm25s

    documents = [document for file in files for document in file.stands_for]
    words = [each for file in files for each in searched(file, own)]
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    index.index(words, show_progress=False)
    run = {}
    for query, text in test.queries.items():
        scores = index.get_scores(weighted_tokens(text))
        best = [at for at in np.argsort(-scores, kind="stable")[:100] if scores[at] > 0]
        run[query] = list(dict.fromkeys(documents[at] for at in best))[:DEPTH]
    return run, sum(map(len, words))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True, help="a set; can be given again")
    parser.add_argument("--join", type=int, default=1, help="documents a file")
    parser.add_argument("--characters", default=str(chunk_module.PARAGRAPH), help="lengths of a paragraph to try")
    options = parser.parse_args()
    tokenizer = open_tokenizer(resolve(ModelSettings().default))
    print("load", [round(load, 1) for load in os.getloadavg()])
    for directory in options.data:
        test = read_set(directory, 0)
        reference = measures(bm25(test, directory.name.rpartition("-")[2] if "-" in directory.name else "en"), test)
        files = cut(test, options.join, tokenizer)
        count = sum(len(file.chunks) for file in files)
        print(f"\n{test.name}: {len(files)} files, {count:,} chunks; bm25s {reference['ndcg'].mean():.4f}")
        print(f"{'':18} nDCG@10  tokens     against bm25s               against chunks alone")
        alone = None
        for length in (0, *map(int, options.characters.split(","))):
            chunk_module.PARAGRAPH, chunk_module.SHORT = length, length // 2
            for own in (1, 2) if length else (0,):
                run, held = ranked(test, files, own)
                gains = measures(run, test)["ndcg"]
                alone = gains if alone is None else alone
                label = f"{length}, own words x{own}" if length else "chunks alone"
                against = [difference(gains, other) for other in (reference["ndcg"], alone)]
                shown = "   ".join(f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]" for mean, low, high in against)
                print(f"{label:18} {gains.mean():.4f} {held:9,}   {shown}", flush=True)


if __name__ == "__main__":
    main()
