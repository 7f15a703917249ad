"""Kinds of files as people name them ("pdf", "code", "slides", ".md"): to the suffixes they mean."""

from __future__ import annotations

import re
from collections.abc import Sequence

from indexer.errors import QueryError
from indexer.text.formats import SUFFIXES

_NAMED = {
    "code": "py pyi pyw pyx js jsx mjs cjs ts mts cts tsx go rs java kt kts scala swift c h cpp cc cxx hpp hh hxx ino "
    "cu cuh m mm cs fs fsx vb rb pl pm php lua r jl dart ex exs erl hrl hs ml mli clj cljs lisp el scm vim f f90 f95 "
    "for pas d zig nim v sv vhd vhdl asm s sh bash zsh fish ps1 bat cmd awk sql proto thrift gradle groovy cmake mk "
    "vue svelte astro tf hcl nix",
    "text": "md markdown mdown mkd mdx qmd rmd rst rest org tex latex ltx adoc asciidoc asc txt text log textile wiki",
    "documents": "pdf docx docm dotx doc dot odt ott rtf epub fb2",
    "slides": "pptx pptm ppsx potx ppt pps odp otp",
    "sheets": "xlsx xlsm xltx xlsb xls ods ots csv tsv tab psv",
    "config": "json jsonl json5 yaml yml toml ini cfg conf properties xml plist",
}
_SUFFIX = re.compile(r"[\w+-]{1,20}")
_FAMILIES = {form.family for form in SUFFIXES.values()} - {"plain", "binary"}
_SYNTAXES = {form.syntax for form in SUFFIXES.values() if form.family == "plain"} - {"text"}
KINDS = tuple(sorted({*_NAMED, *_FAMILIES, *_SYNTAXES}))
"""Names that stand for several suffixes; any other name is a suffix itself."""


def suffixes_of(names: Sequence[str]) -> tuple[str, ...]:
    """Suffixes that ``names`` mean, lower case without the dot, each once; ``.md`` and ``md`` are suffixes.

    Raises:
        QueryError: A name is neither; says what would do.
    """
    return tuple(dict.fromkeys(suffix for name in names for suffix in _meant(name)))


def _meant(name: str) -> tuple[str, ...]:
    word = name.strip().lower().removeprefix("*")
    bare = word.removeprefix(".")
    if not _SUFFIX.fullmatch(bare):
        raise QueryError(
            f"file_types has {name[:60]!r}; give suffixes such as 'pdf' or 'md', or one of {', '.join(KINDS)}"
        )
    if word != bare or bare not in KINDS:
        return (bare,)
    if bare in _NAMED:
        return tuple(_NAMED[bare].split())
    return tuple(
        s for s, form in SUFFIXES.items() if bare == form.family or (form.family, bare) == ("plain", form.syntax)
    )
