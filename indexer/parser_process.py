"""The program of a parser process: ``python -u -m indexer.parser_process``, the worker of ``text`` with tokenizers.

Files are parsed and cut in it, so that the process that answers searches sees finished rows only. It reads a model's
tokenizer, never a model.
"""

from __future__ import annotations

from indexer.models.tokenizer import open_counter
from indexer.text import worker


def main(arguments: list[str] | None = None) -> None:
    """Serve requests until stdin ends."""
    worker.main(arguments, open_counter)


if __name__ == "__main__":
    main()
