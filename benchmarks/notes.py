"""Generated notes, for benchmarks in which only their number and size matter: said so wherever they are used."""

from __future__ import annotations

import random
from pathlib import Path

SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
PER_DIRECTORY = 50
ASK = "harbour winter engine"
"""Words that stand in one note of ten."""


def vocabulary(size: int = 5_000, seed: int = 0) -> list[str]:
    """So many made-up words, frequent ones first."""
    chance = random.Random(seed)
    return ["".join(chance.choices(SYLLABLES, k=chance.randint(2, 4))) for _ in range(size)]


def text(number: int, words: list[str], length: int) -> str:
    """A note of ``length`` words, drawn so that few are frequent; equal numbers give equal notes."""
    chance = random.Random(number)
    drawn = [words[int(len(words) ** chance.random()) - 1] for _ in range(length)]
    lines = [" ".join(drawn[at : at + 12]) for at in range(0, length, 12)]
    return f"# Note {number}\n\n{ASK if number % 10 == 0 else 'a plain note'}\n" + "\n".join(lines) + "\n"


def plant(folder: Path, files: int, length: int = 60) -> list[Path]:
    """Write ``files`` notes of ``length`` words, fifty a directory; returns their paths."""
    words, made = vocabulary(), []
    for number in range(files):
        path = folder / f"d{number // PER_DIRECTORY:04}" / f"note{number:05}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(number, words, length), encoding="utf-8")
        made.append(path)
    return made
