from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import HIDDEN, write_bert, write_json, write_modules, write_static

from indexer.errors import SlotUnavailable
from indexer.models.catalogue import lookup
from indexer.models.recipe import STATIC_TOKENS, read_recipe


def test_everything_is_read_from_the_models_own_files(tmp_path: Path) -> None:
    recipe = read_recipe(
        write_bert(tmp_path, pooling="cls", prompts={"query": "q: ", "document": "d: "}, max_tokens=20)
    )
    assert recipe.modules == ("Transformer", "Pooling", "Normalize")
    assert (recipe.pooling, recipe.dim, recipe.max_tokens) == ("cls", HIDDEN, 20)
    assert (recipe.query_prompt, recipe.passage_prompt) == ("q: ", "d: ")
    assert recipe.normalizes
    assert not recipe.remote_code


def test_the_models_own_prompts_go_before_the_catalogues(tmp_path: Path) -> None:
    entry = lookup("multilingual-e5-small")
    own = read_recipe(write_bert(tmp_path / "a", prompts={"query": "ask: ", "passage": "text: "}), entry)
    assert (own.query_prompt, own.passage_prompt) == ("ask: ", "text: ")
    empty = read_recipe(write_bert(tmp_path / "b", prompts={"query": "", "document": ""}), entry)
    assert (empty.query_prompt, empty.passage_prompt) == ("query: ", "passage: ")
    only_query = read_recipe(write_bert(tmp_path / "c", prompts={"query": "ask: "}), entry)
    assert (only_query.query_prompt, only_query.passage_prompt) == ("ask: ", "")


def test_a_default_prompt_serves_what_has_none_of_its_own(tmp_path: Path) -> None:
    directory = write_bert(tmp_path)
    config = {"prompts": {"all": "text: ", "query": "ask: "}, "default_prompt_name": "all"}
    write_json(directory / "config_sentence_transformers.json", config)
    recipe = read_recipe(directory)
    assert (recipe.query_prompt, recipe.passage_prompt) == ("ask: ", "text: ")


def test_pooling_is_read_in_its_newer_spelling_too(tmp_path: Path) -> None:
    directory = write_bert(tmp_path)
    write_json(directory / "1_Pooling" / "config.json", {"pooling_mode": "lasttoken", "include_prompt": False})
    recipe = read_recipe(directory)
    assert (recipe.pooling, recipe.pools_prompt) == ("last", False)


def test_the_window_never_exceeds_the_table_of_positions(tmp_path: Path) -> None:
    assert read_recipe(write_bert(tmp_path / "a", max_tokens=500)).max_tokens == 64
    # RoBERTa's first position is pad_token_id + 1.
    assert read_recipe(write_bert(tmp_path / "b", max_tokens=500, model_type="xlm-roberta")).max_tokens == 62


def test_a_repository_without_sentence_transformers_files_takes_the_catalogues_word(tmp_path: Path) -> None:
    directory = write_bert(tmp_path)
    for name in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        (directory / name).unlink()
    recipe = read_recipe(directory, lookup("bge-small-en-v1.5"))
    assert (recipe.pooling, recipe.dim) == ("cls", HIDDEN)
    assert read_recipe(directory).pooling == "mean"


def test_the_last_dense_module_gives_the_length(tmp_path: Path) -> None:
    directory = write_bert(tmp_path)
    write_json(directory / "2_Dense" / "config.json", {"in_features": HIDDEN, "out_features": 5})
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]
    write_modules(directory, [(p, f"sentence_transformers.models.{k}") for p, k in kinds])
    assert read_recipe(directory).dim == 5


def test_a_static_table_has_no_special_tokens(tmp_path: Path) -> None:
    recipe = read_recipe(write_static(tmp_path))
    assert (recipe.pooling, recipe.special_tokens, recipe.max_tokens) == ("static", False, STATIC_TOKENS)


def test_code_of_its_own_is_noticed(tmp_path: Path) -> None:
    assert read_recipe(write_bert(tmp_path / "a", auto_map={"AutoModel": "modeling.Mine"})).remote_code
    directory = write_bert(tmp_path / "b")
    write_modules(directory, [("", "custom_st.Transformer")])
    assert read_recipe(directory).remote_code


def test_a_damaged_configuration_names_the_file(tmp_path: Path) -> None:
    directory = write_bert(tmp_path)
    (directory / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(SlotUnavailable, match=r"config\.json is damaged") as caught:
        read_recipe(directory)
    assert caught.value.code == "corrupt_files"
