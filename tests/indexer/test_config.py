import os
import subprocess
import sys
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest

from indexer.config import ENVIRONMENT, TABLES, Config, FolderSettings, load_config
from indexer.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def load(tmp_path: Path, text: str, **environ: str) -> Config:
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, data_dir=tmp_path / "data", environ=environ)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "config.toml"))
    return message.removeprefix(str(tmp_path / "config.toml")).removeprefix(": ")


def test_a_missing_default_file_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load_config(None, data_dir=tmp_path / "data", environ={})
    assert config.config_file is None
    assert config == Config(data_dir=tmp_path / "data", hub_cache=tmp_path / ".cache/huggingface/hub")


def test_the_default_file_is_read_and_the_default_data_directory_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platformdirs

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "conf"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("HOME", str(tmp_path))
    file = Path(platformdirs.user_config_dir("folder-mcp", appauthor=False)) / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[search]\nwait = 3\n")
    config = load_config(None, data_dir=None, environ={})
    assert config.search.wait == 3.0
    assert config.config_file == file
    assert config.data_dir == Path(platformdirs.user_data_dir("folder-mcp", appauthor=False))


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such configuration file; correct --config"):
        load_config(tmp_path / "nowhere.toml", data_dir=None, environ={})
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config(None, data_dir=None, environ={"FOLDER_MCP_CONFIG": str(tmp_path / "nowhere.toml")})


def test_flag_goes_before_environment_before_file(tmp_path: Path) -> None:
    file, other = tmp_path / "a.toml", tmp_path / "b.toml"
    file.write_text('data_dir = "from-file"\n[search]\nwait = 1\n')
    other.write_text("[search]\nwait = 2\n")
    environ = {"FOLDER_MCP_CONFIG": str(other), "FOLDER_MCP_DATA_DIR": str(tmp_path / "from-environment")}
    assert load_config(file, data_dir=None, environ={}).data_dir == tmp_path / "from-file"
    assert load_config(file, data_dir=None, environ=environ).data_dir == tmp_path / "from-environment"
    assert load_config(file, data_dir=tmp_path / "flag", environ=environ).data_dir == tmp_path / "flag"
    assert load_config(file, data_dir=None, environ=environ).search.wait == 1.0
    assert load_config(None, data_dir=None, environ=environ).search.wait == 2.0


def test_every_key_is_taken(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [[folders]]
        path = "notes"
        model = "BAAI/bge-m3"
        include = [".env"]
        exclude = ["drafts/"]
        [model]
        default = "./models/mine"
        device = "cpu"
        runtime = "torch"
        allow_remote_code = ["a/b"]
        offline = true
        [slot]
        keep_warm = 1.5
        starvation_cap = 0
        allow_cpu_fallback = false
        [index]
        max_file_mb = 2
        hidden = true
        watch = false
        rescan_minutes = 0.5
        parser_workers = 4
        [owner]
        linger = 0
        idle_exit = 1
        """,
    )
    assert config.folders == (
        FolderSettings(str(tmp_path / "notes"), "BAAI/bge-m3", include=(".env",), exclude=("drafts/",)),
    )
    assert (config.model.default, config.model.device, config.model.runtime) == (
        str(tmp_path / "models/mine"),
        "cpu",
        "torch",
    )
    assert (config.model.allow_remote_code, config.model.offline) == (("a/b",), True)
    assert (config.slot.keep_warm, config.slot.starvation_cap, config.slot.allow_cpu_fallback) == (1.5, 0.0, False)
    assert (config.index.max_file_mb, config.index.rescan_minutes, config.index.parser_workers) == (2.0, 0.5, 4)
    assert (config.index.hidden, config.index.watch) == (True, False)
    assert (config.owner.linger, config.owner.idle_exit) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[slot]\nkeep_wram = 1", 'unknown key "keep_wram" in [slot]; did you mean "keep_warm"?'),
        ("keep_warm = 1", 'unknown key "keep_warm" at the top level; it belongs in [slot]'),
        ("[search]\nkeep_warm = 1", 'unknown key "keep_warm" in [search]; it belongs in [slot]'),
        ("[slto]\nkeep_warm = 1", 'unknown table "slto" at the top level; did you mean "slot"?'),
        ("[owner]\nxyzzy = 1", 'unknown key "xyzzy" in [owner]; allowed are linger, idle_exit'),
        ('[[folders]]\npth = "a"', 'unknown key "pth" in [[folders]] number 1; did you mean "path"?'),
        ('[[folders]]\npath = "a"\n[[folders]]\n', '[[folders]] number 2 has no "path"; add path = "/the/folder"'),
        ('[folders]\npath = "a"', '"folders" must be written as [[folders]] tables, each with a path'),
        ("[[folders]]\npath = 3", '[[folders]] number 1 path must be a path, such as "~/Documents", not 3'),
        ("slot = 3", "slot must be a table, written as [slot] with its keys below"),
        ("[[slot]]\nkeep_warm = 1", "slot must be a table, written as [slot] with its keys below"),
        ("[slot]\nkeep_warm = true", "[slot] keep_warm must be a number from 0 to 86400, not True"),
        ("[slot]\nkeep_warm = -1", "[slot] keep_warm must be a number from 0 to 86400, not -1"),
        ("[slot]\nkeep_warm = nan", "[slot] keep_warm must be a number from 0 to 86400, not nan"),
        ("[slot]\nkeep_warm = inf", "[slot] keep_warm must be a number from 0 to 86400, not inf"),
        ('[slot]\nkeep_warm = "300"', "[slot] keep_warm must be a number from 0 to 86400, not '300'"),
        ("[slot]\nallow_cpu_fallback = 1", "[slot] allow_cpu_fallback must be true or false, without quotes, not 1"),
        ("[search]\nwait = 0", "[search] wait must be a number from 0.1 to 600, not 0"),
        ("[index]\nparser_workers = 1.5", "[index] parser_workers must be a whole number from 1 to 64, not 1.5"),
        ("[index]\nparser_workers = true", "[index] parser_workers must be a whole number from 1 to 64, not True"),
        ('[model]\ndevice = "gpu"', '[model] device must be one of "auto", "cpu", "cuda", "mps", not \'gpu\''),
        ('[model]\nruntime = ["onnx"]', '[model] runtime must be one of "auto", "torch", "onnx", not [\'onnx\']'),
        ('data_dir = ""', "data_dir must be a path, such as \"~/Documents\", not ''"),
    ],
)
def test_each_mistake_names_its_key_and_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    assert refused(tmp_path, text) == message


@pytest.mark.parametrize("name", ["", "a b", "a/b/c", "../\\u0000", "-x", "a" * 200, "https://huggingface.co/a/b"])
def test_a_model_name_that_can_be_none_is_refused(tmp_path: Path, name: str) -> None:
    assert "[model] default must be a model name" in refused(tmp_path, f'[model]\ndefault = "{name}"')


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "BAAI/bge-m3", "intfloat/multilingual-e5-small"])
def test_a_hub_name_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, f'[model]\ndefault = "{name}"').model.default == name


@pytest.mark.parametrize("pattern", ["", "   ", "!a", "a\\nb"])
def test_a_pattern_that_is_none_is_refused(tmp_path: Path, pattern: str) -> None:
    assert "[index] exclude has" in refused(tmp_path, f'[index]\nexclude = ["{pattern}"]')


def test_patterns_must_be_a_list_of_text(tmp_path: Path) -> None:
    assert "[index] include must be a list of patterns" in refused(tmp_path, '[index]\ninclude = "*.log"')
    assert "[index] include must be a list of patterns" in refused(tmp_path, "[index]\ninclude = [1]")


def test_a_long_wrong_value_is_cut_in_the_message(tmp_path: Path) -> None:
    assert len(refused(tmp_path, f'[slot]\nkeep_warm = "{"x" * 10_000}"')) < 200


def test_broken_toml_is_refused_with_line_and_column(tmp_path: Path) -> None:
    message = refused(tmp_path, "[slot]\nkeep_warm = = 3\n")
    assert "not valid TOML" in message and "line 2, column 13" in message
    assert "line 2" in refused(tmp_path, "[slot]\n[slot]\n")


def test_a_file_that_is_not_utf8_is_refused_with_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b'[model]\ndefault = "\xff"\n')
    with pytest.raises(ConfigError, match="line 2, column 12 is not UTF-8; save the file as UTF-8"):
        load_config(file, data_dir=None, environ={})


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff[search]\nwait = 2\n").search.wait == 2.0


def test_a_directory_as_configuration_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, data_dir=None, environ={})


def test_a_file_as_data_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match=r"taken is a file; name a directory with --data-dir"):
        load_config(None, data_dir=tmp_path / "taken", environ={})


def test_paths_in_the_file_count_from_the_file_and_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    config = load(tmp_path, '[[folders]]\npath = "../a/./b"\n[[folders]]\npath = "~/notes"\n')
    assert [each.path for each in config.folders] == [str(tmp_path.parent / "a/b"), "/home/ada/notes"]


def test_an_unknown_users_home_is_a_configuration_error(tmp_path: Path) -> None:
    assert "no such user" in _error(tmp_path, '[[folders]]\npath = "~nobody-of-this-name/notes"\n')


def _error(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return str(caught.value)


def test_the_environment_says_where_models_are_and_which_python_parses(tmp_path: Path) -> None:
    config = load(tmp_path, "", HF_HOME="/hf", PYTHON_PATH="/opt/python", HF_HUB_OFFLINE="1")
    assert (config.hub_cache, config.parser_python, config.model.offline) == (Path("/hf/hub"), "/opt/python", True)
    config = load(tmp_path, "", HF_HOME="/hf", HF_HUB_CACHE="/cache", PYTHON_PATH="", HF_HUB_OFFLINE="0")
    assert (config.hub_cache, config.parser_python, config.model.offline) == (Path("/cache"), None, False)


def test_offline_in_the_file_is_not_undone_by_the_environment(tmp_path: Path) -> None:
    assert load(tmp_path, "[model]\noffline = true\n", HF_HUB_OFFLINE="0").model.offline


def _keys() -> list[tuple[str, str]]:
    tables = [(table, each.name) for table, kind in TABLES.items() for each in fields(kind)]
    return [("", "data_dir"), *(("folders", each.name) for each in fields(FolderSettings)), *tables]


def test_the_example_says_the_defaults(tmp_path: Path) -> None:
    written = (ROOT / "config.example.toml").read_text(encoding="utf-8")
    assert load(tmp_path, written) == replace(load(tmp_path, ""), config_file=tmp_path / "config.toml")
    taken = [line.removeprefix("# ") for line in written.splitlines() if not line.startswith("# #")]
    live = "\n".join(
        line for line in taken if "[" in line[:1] or (" = " in line and line.split(" = ")[0].isidentifier())
    )
    config = load(tmp_path, live)
    plain = load(tmp_path, "")
    assert {name: getattr(config, name) for name in TABLES} == {name: getattr(plain, name) for name in TABLES}
    assert [each.path for each in config.folders] == [os.path.expanduser("~/Documents")]


@pytest.mark.parametrize(("table", "key"), _keys())
def test_the_example_explains_every_key(table: str, key: str) -> None:
    lines = (ROOT / "config.example.toml").read_text(encoding="utf-8").splitlines()
    start = next((n for n, line in enumerate(lines) if line in (f"[{table}]", f"# [[{table}]]")), 0)
    at = next(n for n in range(start, len(lines)) if lines[n].startswith(f"# {key} = "))
    assert lines[at - 1].startswith("# ") and len(lines[at - 1]) > 10


@pytest.mark.parametrize(("table", "key"), _keys())
def test_the_documentation_has_every_key_with_its_default(table: str, key: str) -> None:
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    part = text.split(f"### `[{table}]`" if table in TABLES else f"### `[[{table}]]`" if table else "## The file")[1]
    row = next(line for line in part.splitlines() if line.startswith(f"| `{key}` |"))
    if table in TABLES:
        default = next(each.default for each in fields(TABLES[table]) if each.name == key)
        assert default is not MISSING
        shown = {bool: str(default).lower(), str: f'"{default}"', tuple: "[]", int: str(default)}
        assert f"`{shown.get(type(default)) or format(default, 'g')}`" in row


@pytest.mark.parametrize("name", [*ENVIRONMENT, "--config", "--data-dir", "--allow-broad"])
def test_the_documentation_has_every_variable_and_flag(name: str) -> None:
    assert name in (ROOT / "docs/configuration.md").read_text(encoding="utf-8")


def test_every_key_is_explained_in_one_line() -> None:
    for kind in (FolderSettings, *TABLES.values()):
        for each in fields(kind):
            assert 10 < len(each.metadata["explanation"]) < 120, each.name


def test_importing_the_configuration_is_light() -> None:
    heavy = "{'numpy', 're2', 'watchfiles', 'anyio', 'tomllib', 'platformdirs', 'pydantic'}"
    code = (
        f"import sys, indexer.config; sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
