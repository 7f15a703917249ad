"""Haystack: converter, cleaner, splitter (defaults), sentence-transformers embedder, in-memory store."""

from run import Task

task = Task()

from haystack import Pipeline
from haystack.components.converters import TextFileToDocument
from haystack.components.preprocessors import DocumentCleaner, DocumentSplitter
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack_integrations.components.embedders.sentence_transformers import (
    SentenceTransformersDocumentEmbedder,
    SentenceTransformersTextEmbedder,
)

store = InMemoryDocumentStore()
embedder = SentenceTransformersDocumentEmbedder(model=task.model, progress_bar=False)
asking = SentenceTransformersTextEmbedder(model=task.model, progress_bar=False)
embedder.warm_up()
asking.warm_up()
task.loaded()
pipeline = Pipeline()
pipeline.add_component("converter", TextFileToDocument())
pipeline.add_component("cleaner", DocumentCleaner())
pipeline.add_component("splitter", DocumentSplitter())
pipeline.add_component("embedder", embedder)
pipeline.add_component("writer", DocumentWriter(store))
for one, other in (
    ("converter", "cleaner"),
    ("cleaner", "splitter"),
    ("splitter", "embedder"),
    ("embedder", "writer"),
):
    pipeline.connect(one, other)
pipeline.run({"converter": {"sources": task.files, "meta": [{"path": path} for path in task.files]}})
retriever = InMemoryEmbeddingRetriever(store, top_k=10)


def search(question: str) -> list[str]:
    vector = asking.run(text=question)["embedding"]
    return [hit.meta["path"] for hit in retriever.run(query_embedding=vector)["documents"]]


task.searchable(search, [document.content or "" for document in store.filter_documents()])
