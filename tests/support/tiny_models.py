"""Models of a few kilobytes with real files: safetensors, tokenizer, configuration. Torch only for MPNet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

TEXT = """the a of in and is to lease contract notice period tenant valve pressure bar pump motor query passage : .
how long what which wine glass river bank fox dog quick brown x y z 1 2 3"""
WORDS = TEXT.split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz0123456789")
HIDDEN, WIDE, LAYERS, HEADS, POSITIONS = 16, 32, 2, 4, 64


def vocabulary() -> list[str]:
    return list(dict.fromkeys([*SPECIAL, *WORDS, *LETTERS, *("##" + c for c in LETTERS)]))


def tokenizer() -> Tokenizer:
    words = vocabulary()
    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", words.index("[CLS]")), ("[SEP]", words.index("[SEP]"))]
    )
    # As the embedded model's own file: truncation and padding switched on.
    made.enable_truncation(max_length=12)
    made.enable_padding(length=12, pad_token="[PAD]")
    return made


def bert_config(**changes: Any) -> dict[str, Any]:
    return {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": HIDDEN,
        "intermediate_size": WIDE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "vocab_size": len(vocabulary()),
        "layer_norm_eps": 1e-12, "pad_token_id": 0, "position_embedding_type": "absolute",
    } | changes  # fmt: skip


def bert_weights(config: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    h, w = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], h),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], h),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], h),
    }
    dense = {f"attention.{n}": (h, h) for n in ("self.query", "self.key", "self.value", "output.dense")}
    dense |= {"intermediate.dense": (w, h), "output.dense": (h, w)}
    norms = ["embeddings.LayerNorm"]
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}."
        norms += [f"{at}attention.output.LayerNorm", f"{at}output.LayerNorm"]
        for name, shape in dense.items():
            shapes |= {f"{at}{name}.weight": shape, f"{at}{name}.bias": shape[:1]}
    out = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in norms:
        out[f"{name}.weight"] = rng.normal(1, 0.2, h).astype(np.float32)
        out[f"{name}.bias"] = rng.normal(0, 0.2, h).astype(np.float32)
    out["pooler.dense.weight"] = rng.normal(0, 1, (h, h)).astype(np.float32)
    out["pooler.dense.bias"] = rng.normal(0, 1, h).astype(np.float32)
    return out


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_bert(
    directory: Path,
    *,
    pooling: str = "mean",
    prompts: dict[str, str] | None = None,
    max_tokens: int = 32,
    seed: int = 0,
    prefix: str = "",
    dtype: Any = np.float32,
    **changes: Any,
) -> Path:
    """Write a BERT as sentence-transformers lays it out."""
    directory.mkdir(parents=True, exist_ok=True)
    config = bert_config(**changes)
    weights = {prefix + n: t.astype(dtype) for n, t in bert_weights(config, seed).items()}
    save_file(weights, directory / "model.safetensors")
    tokenizer().save(str(directory / "tokenizer.json"))
    write_json(directory / "config.json", config)
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": 512})
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    if prompts is not None:
        write_json(directory / "config_sentence_transformers.json", {"prompts": prompts})
    kinds = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}
    modes = {f"pooling_mode_{kind}": name == pooling for name, kind in kinds.items()}
    write_json(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": HIDDEN, **modes})
    types = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_modules(directory, [(path, f"sentence_transformers.models.{kind}") for path, kind in types])
    return directory


def write_mpnet(directory: Path) -> Path:
    """Write an MPNet: relative positions, which no graph of ours covers and a traced export gets wrong."""
    import torch
    from transformers import MPNetConfig, MPNetModel

    write_bert(directory)
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=len(vocabulary()), hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=32, max_position_embeddings=66, pad_token_id=0,
    )  # fmt: skip
    MPNetModel(config).save_pretrained(directory)
    return directory


def write_modules(directory: Path, modules: list[tuple[str, str]]) -> None:
    write_json(
        directory / "modules.json",
        [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)],
    )


def write_static(directory: Path, seed: int = 0) -> Path:
    """Write a table of word vectors as model2vec lays it out."""
    directory.mkdir(parents=True, exist_ok=True)
    table = np.random.default_rng(seed).normal(size=(len(vocabulary()), HIDDEN)).astype(np.float32)
    save_file({"embeddings": table}, directory / "model.safetensors")
    tokenizer().save(str(directory / "tokenizer.json"))
    write_json(directory / "config.json", {"model_type": "model2vec", "normalize": True, "hidden_dim": HIDDEN})
    kinds = [("", "StaticEmbedding"), ("1_Normalize", "Normalize")]
    write_modules(directory, [(path, f"sentence_transformers.models.{kind}") for path, kind in kinds])
    return directory


def write_hub(cache: Path, repo: str, commit: str = "c" * 40, **how: Any) -> Path:
    """Write a BERT as the hub's cache lays it out: blobs, and links to them in a snapshot."""
    root = cache / ("models--" + repo.replace("/", "--"))
    snapshot = write_bert(root / "snapshots" / commit, **how)
    blobs = root / "blobs"
    blobs.mkdir(exist_ok=True)
    weights = snapshot / "model.safetensors"
    import hashlib

    blob = blobs / hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.rename(blob)
    weights.symlink_to(Path("../../blobs") / blob.name)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(commit, encoding="utf-8")
    return snapshot


def write_cross_encoder(
    directory: Path, *, family: str = "bert", labels: int = 1, max_tokens: int = 48, seed: int = 0
) -> Path:
    """Write a cross-encoder as the hub has them: a BERT or RoBERTa with one number for a pair of texts."""
    directory.mkdir(parents=True, exist_ok=True)
    roberta = family != "bert"
    changes = {"model_type": family, "pad_token_id": 1, "type_vocab_size": 1} if roberta else {}
    name = "XLMRobertaForSequenceClassification" if roberta else "BertForSequenceClassification"
    config = bert_config(architectures=[name], id2label={str(n): f"LABEL_{n}" for n in range(labels)}, **changes)
    rng = np.random.default_rng(seed + 1)
    weights = bert_weights(config, seed)
    if roberta:
        weights = {n: t for n, t in weights.items() if not n.startswith("pooler.")}
    weights = {f"{'roberta' if roberta else 'bert'}.{n}": t for n, t in weights.items()}
    heads = {"classifier.dense": (HIDDEN, HIDDEN), "classifier.out_proj": (labels, HIDDEN)}
    for layer, shape in (heads if roberta else {"classifier": (labels, HIDDEN)}).items():
        weights[f"{layer}.weight"] = rng.normal(0, 1, shape).astype(np.float32)
        weights[f"{layer}.bias"] = rng.normal(0, 1, shape[:1]).astype(np.float32)
    save_file(weights, directory / "model.safetensors")
    made, words = tokenizer(), vocabulary()
    second = ":0" if roberta else ":1"
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS] $A [SEP] $B{second} [SEP]{second}",
        special_tokens=[("[CLS]", words.index("[CLS]")), ("[SEP]", words.index("[SEP]"))],
    )
    made.save(str(directory / "tokenizer.json"))
    write_json(directory / "config.json", config)
    kind = "XLMRobertaTokenizer" if roberta else "BertTokenizer"
    write_json(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast" if roberta else kind, "model_max_length": max_tokens}
        | {f"{name}_token": token for name, token in zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL, strict=True)},
    )
    return directory
