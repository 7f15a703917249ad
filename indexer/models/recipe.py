"""How a model turns text into a vector: read from its configuration files, with the catalogue for what they lack.

The files and their meaning are those of sentence-transformers: ``modules.json`` (the chain of modules),
``sentence_bert_config.json`` (length), ``1_Pooling/config.json``, ``config_sentence_transformers.json`` (prompts).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.errors import SlotUnavailable
from indexer.models.catalogue import Entry

if TYPE_CHECKING:
    from indexer.types import Matrix

_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "last",
}
STATIC_TOKENS = 512
"""Length of a passage for models that average a table of vectors and have no limit of their own, tokens."""
DEFAULT_TOKENS = 512
"""Length assumed when neither the model nor the catalogue names one, tokens."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What determines a text's vector, beside the weights.

    Attributes:
        architecture: ``model_type`` of ``config.json``, for example ``bert``.
        modules: Class names of the chain, for example ``("Transformer", "Pooling", "Normalize")``.
        root: Directory of the first module relative to the model's, usually empty.
        pooling: ``mean``, ``cls``, ``last``, ``static``, or another name of sentence-transformers.
        pools_prompt: Whether the prompt's own tokens take part in the pooling.
        dim: Length of a vector; 0 when only the loaded model knows.
        max_tokens: How much of a text the model takes, in tokens, special tokens included.
        query_prompt: Prepended to a query.
        passage_prompt: Prepended to a passage.
        lower_case: Whether text is lower-cased before the tokenizer.
        normalizes: Whether the chain itself ends in unit vectors.
        special_tokens: Whether the tokenizer adds its special tokens.
        remote_code: Whether the model names code of its own repository; its files decide, for a model of the catalogue
            too, as they may have been replaced.
    """

    architecture: str
    modules: tuple[str, ...]
    root: str
    pooling: str
    pools_prompt: bool
    dim: int
    max_tokens: int
    query_prompt: str
    passage_prompt: str
    lower_case: bool
    normalizes: bool
    special_tokens: bool
    remote_code: bool


def read_recipe(directory: Path, entry: Entry | None = None) -> Recipe:
    """Read the recipe of the model in ``directory``.

    Raises:
        SlotUnavailable: ``corrupt_files`` when a configuration file is not JSON.
    """
    modules = _json(directory / "modules.json")
    chain = modules if isinstance(modules, list) else []
    root = str(chain[0].get("path", "")) if chain else ""
    names = tuple(str(m.get("type", "")).rsplit(".", 1)[-1] for m in chain) or ("Transformer", "Pooling")
    config = _dict(directory / root / "config.json")
    sentence = _dict(directory / root / "sentence_bert_config.json")
    static = names[0] == "StaticEmbedding" or config.get("model_type") == "model2vec"
    pooling, pools_prompt = ("static", True) if static else _pooling(directory, chain, entry)
    query, passage = _prompts(_dict(directory / "config_sentence_transformers.json"), entry)
    return Recipe(
        architecture=str(config.get("model_type", "")),
        modules=names,
        root=root,
        pooling=pooling,
        pools_prompt=pools_prompt,
        dim=_dim(directory, chain, config, entry),
        max_tokens=STATIC_TOKENS if static else _length(directory / root, config, sentence, entry),
        query_prompt=query,
        passage_prompt=passage,
        lower_case=bool(sentence.get("do_lower_case", False)),
        normalizes="Normalize" in names,
        special_tokens=not static,
        remote_code=_needs_code(directory, config, chain),
    )


def layer_weights(directory: Path) -> int:
    """Return the number of weights each token passes: 12 * layers * hidden^2 (Kaplan et al. 2020), 0 when unknown.

    Args:
        directory: Where the transformer's ``config.json`` is.

    Raises:
        SlotUnavailable: ``corrupt_files`` when it is not JSON.
    """
    config = _dict(directory / "config.json")
    return 12 * int(config.get("num_hidden_layers") or 0) * int(config.get("hidden_size") or 0) ** 2


def _pooling(directory: Path, chain: list[Any], entry: Entry | None) -> tuple[str, bool]:
    """Return the pooling and whether it covers the prompt; the default of sentence-transformers is mean."""
    for module in chain:
        if str(module.get("type", "")).endswith(".Pooling"):
            config = _dict(directory / str(module.get("path", "")) / "config.json")
            mode = config.get("pooling_mode") or [v for k, v in _POOLING.items() if config.get(k)] or "mean"
            modes = [mode] if isinstance(mode, str) else list(mode)
            names = ["last" if m == "lasttoken" else str(m) for m in modes]
            return "+".join(names), bool(config.get("include_prompt", True))
    return (entry.pooling if entry else "mean"), True


def _prompts(config: dict[str, Any], entry: Entry | None) -> tuple[str, str]:
    """Return the query and the passage prompt: the model's own if it names any, else the catalogue's."""
    prompts = {str(k): str(v) for k, v in (config.get("prompts") or {}).items()}
    if not any(prompts.values()):
        return (entry.query_prompt, entry.passage_prompt) if entry else ("", "")
    default = prompts.get(str(config.get("default_prompt_name") or ""), "")
    query = next((prompts[n] for n in ("query", "search_query", "retrieval.query") if n in prompts), default)
    passage = next((prompts[n] for n in ("document", "passage", "search_document", "retrieval.passage")
                    if n in prompts), default)  # fmt: skip
    if entry and not (query or passage):
        return entry.query_prompt, entry.passage_prompt
    return query, passage


def _dim(directory: Path, chain: list[Any], config: dict[str, Any], entry: Entry | None) -> int:
    """Return the vector's length: of the last dense module, else of the pooling, else of the transformer."""
    dims = [0]
    for module in chain[1:]:
        own = _dict(directory / str(module.get("path", "")) / "config.json")
        dims.append(int(own.get("out_features") or own.get("embedding_dimension")
                        or own.get("word_embedding_dimension") or dims[-1]))  # fmt: skip
    hidden = config.get("hidden_size") or config.get("n_embd") or config.get("dim") or config.get("hidden_dim") or 0
    return dims[-1] or int(hidden) or (entry.dim if entry else 0)


def _length(root: Path, config: dict[str, Any], sentence: dict[str, Any], entry: Entry | None) -> int:
    """Return the context length: the one the model names, never more than its table of positions has rows."""
    positions = int(config.get("max_position_embeddings") or 0)
    if positions and config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= 2  # these families count positions from pad_token_id + 1
    tokenizer = _dict(root / "tokenizer_config.json").get("model_max_length") or 0
    named = sentence.get("max_seq_length") or (entry.context if entry else 0)
    if not named:
        # transformers writes 1e30 for "no limit".
        named = int(tokenizer) if 0 < tokenizer < 1_000_000 else positions or DEFAULT_TOKENS
    return min(int(named), positions) if positions else int(named)


def _needs_code(directory: Path, config: dict[str, Any], chain: list[Any]) -> bool:
    """Whether a module's class is not of the library, or the configuration of one names classes of the repository."""
    own = [_dict(directory / str(module.get("path", "")) / "config.json") for module in chain]
    return any(each.get("auto_map") for each in (config, *own)) or any(
        not str(m.get("type", "")).startswith("sentence_transformers.") for m in chain
    )


def _dict(path: Path) -> dict[str, Any]:
    value = _json(path)
    return value if isinstance(value, dict) else {}


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as e:
        raise SlotUnavailable(
            "corrupt_files", f"{path} is damaged: {e}", "Delete this model's files and pull it again."
        ) from e


def unit_rows(raw: Any, dim: int) -> Matrix:
    """Return ``raw`` as float32 [n, dim] with rows of unit length: the last step of every runtime.

    A row of zeros stays zeros: a text that has no tokens is near to no other.

    Raises:
        ValueError: The model returned another shape, or something that is not a finite number.
    """
    import numpy as np  # noqa: PLC0415 - heavy, and imported by the runtime by now; a start imports this module

    rows = np.asarray(raw, dtype=np.float32).reshape(len(raw), -1) if len(raw) else np.zeros((0, dim), np.float32)
    if dim and rows.shape[1] != dim:
        raise ValueError(f"the model returned vectors of {rows.shape[1]} numbers, expected {dim}")
    if not np.isfinite(rows).all():
        raise ValueError("the model returned vectors with infinite or undefined numbers")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
    lengths[lengths == 0.0] = 1.0
    unit: Matrix = rows / lengths
    return unit
