"""LlamaIndex: SimpleDirectoryReader and VectorStoreIndex with its defaults, as its starter example shows."""

from run import SUFFIXES, Task

task = Task()

from llama_index.core import Settings, SimpleDirectoryReader, VectorStoreIndex
from llama_index.embeddings.huggingface import HuggingFaceEmbedding

Settings.embed_model = HuggingFaceEmbedding(model_name=task.model)
Settings.embed_model.get_text_embedding("warm")
task.loaded()
documents = SimpleDirectoryReader(task.folder, recursive=True, required_exts=sorted(SUFFIXES)).load_data()
index = VectorStoreIndex.from_documents(documents)
retriever = index.as_retriever(similarity_top_k=10)


def search(question: str) -> list[str]:
    return [hit.node.metadata["file_path"] for hit in retriever.retrieve(question)]


# What it embeds of a node: its text with the metadata in front.
chunks = [node.get_content(metadata_mode="embed") for node in index.docstore.docs.values()]
task.searchable(search, chunks)
