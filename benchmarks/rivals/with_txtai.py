"""txtai: paragraphs (its Segmentation), Embeddings with content, as its documentation shows for files."""

from pathlib import Path

from run import Task

task = Task()

from txtai import Embeddings
from txtai.pipeline import Segmentation

segment = Segmentation(paragraphs=True)
embeddings = Embeddings(path=task.model, content=True)
embeddings.transform("warm")
task.loaded()
chunks, owner = [], []
for path in task.files:
    for passage in segment(Path(path).read_text(encoding="utf-8")):
        chunks.append(passage)
        owner.append(path)
embeddings.index((number, text, None) for number, text in enumerate(chunks))


def search(question: str) -> list[str]:
    return [owner[int(hit["id"])] for hit in embeddings.search(question, 10)]


task.searchable(search, chunks)
