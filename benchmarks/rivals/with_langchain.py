"""LangChain with LanceDB: DirectoryLoader, RecursiveCharacterTextSplitter (1,000, 200), as its tutorial shows."""

import tempfile

from run import Task

task = Task()

from langchain_community.document_loaders import DirectoryLoader, TextLoader
from langchain_community.vectorstores import LanceDB
from langchain_huggingface import HuggingFaceEmbeddings
from langchain_text_splitters import RecursiveCharacterTextSplitter

embeddings = HuggingFaceEmbeddings(model_name=task.model)
embeddings.embed_query("warm")
task.loaded()
loader = DirectoryLoader(
    task.folder, glob="**/*", loader_cls=TextLoader, loader_kwargs={"encoding": "utf-8"}, recursive=True
)
splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=200)
passages = splitter.split_documents(loader.load())
with tempfile.TemporaryDirectory() as place:
    store = LanceDB.from_documents(passages, embeddings, uri=place)

    def search(question: str) -> list[str]:
        return [hit.metadata["source"] for hit in store.similarity_search(question, k=10)]

    task.searchable(search, [passage.page_content for passage in passages])
