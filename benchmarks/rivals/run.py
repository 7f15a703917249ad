"""The same task for every program: index a folder of text files with given weights, then answer questions.

Run inside a rival's own environment; knows nothing of folder-mcp. Arguments: folder, model directory, file of
questions (JSON list), file for the chunks (JSON list of texts), start on the monotonic clock. Prints one JSON object.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

Search = Callable[[str], "list[str]"]
"""A question to the paths of the best ten passages, best first."""
SUFFIXES = {".md", ".rst", ".txt", ".py"}


class Task:
    """What is to be indexed, and the moments on the way."""

    def __init__(self) -> None:
        folder, model, questions, chunks, started = sys.argv[1:6]
        self.folder, self.model = folder, model
        self.questions: list[str] = json.loads(Path(questions).read_text(encoding="utf-8"))
        self._chunks, self._started = Path(chunks), float(started)
        self._loaded = 0.0
        self.files = sorted(str(path) for path in Path(folder).rglob("*") if path.suffix in SUFFIXES)

    def loaded(self) -> None:
        """The libraries and the model are there; from here on it reads and embeds."""
        self._loaded = time.monotonic()

    def searchable(self, search: Search, chunks: list[str]) -> None:
        """Everything is indexed: ask, and say what came of it."""
        first = search(self.questions[0])
        ready = time.monotonic()
        used = resource.getrusage(resource.RUSAGE_SELF)
        answers, took = {self.questions[0]: first}, []
        for question in self.questions:
            began = time.monotonic()
            answers[question] = search(question)
            took.append(time.monotonic() - began)
        self._chunks.write_text(json.dumps(chunks), encoding="utf-8")
        said = {
            "files": len(self.files),
            "chunks": len(chunks),
            "start_to_loaded_s": self._loaded - self._started,
            "start_to_searchable_s": ready - self._started,
            "cpu_to_searchable_s": used.ru_utime + used.ru_stime,
            "queries_s": took,
            "answers": answers,
        }
        print(json.dumps(said))
