"""`tunesmith params` and `tunesmith check`: what params.yaml comes to."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from tunesmith.cli.main import main

PARAMS = """
data: {rows: {path: rows.jsonl}}
sft: {mine: {dataset: rows, lora: {rank: 8}}}
evaluate: {suites: {s: {dataset: rows, verifier: exact}}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "data" / "held_out").mkdir(parents=True)
    return tmp_path


def tunesmith(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.usefixtures("folder")
def test_effective_values_are_shown_with_defaults_marked() -> None:
    lines = tunesmith("params", "sft.mine").stdout.splitlines()
    assert "dataset: rows" in lines
    assert "weights: lora  # default" in lines
    assert "learning_rate: null  # default" in lines
    assert lines[lines.index("lora:") + 1 :][:2] == ["  rank: 8", "  alpha: 32  # default"]


@pytest.mark.usefixtures("folder")
def test_the_sections_of_params_yaml_are_shown_and_all_of_them_where_that_is_asked() -> None:
    assert set(yaml.safe_load(tunesmith("params").stdout)) == {"data", "sft", "evaluate"}
    everything = yaml.safe_load(tunesmith("params", "--all").stdout)
    assert {"base_model", "gate", "runtime", "serve", "signing"} <= set(everything)
    assert everything["gate"]["rules"][0]["must"] == "improve"


def test_what_is_shown_is_a_params_yaml_that_means_the_same(folder: Path) -> None:
    shown = tunesmith("params", "--all").stdout
    (folder / "params.yaml").write_text(shown)
    assert yaml.safe_load(tunesmith("params", "--all").stdout) == yaml.safe_load(shown)
    assert "# default" not in tunesmith("params", "sft.mine").stdout


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("sft.mien", "no params at 'sft.mien'; did you mean 'mine'?"),
        ("gaet", "no params at 'gaet'; did you mean 'gate'?"),
        ("sft.mine.dataset.x", "no params at 'sft.mine.dataset.x'"),
    ],
)
def test_a_section_that_is_not_there_is_an_error_with_what_was_meant(section: str, message: str) -> None:
    done = tunesmith("params", section)
    assert done.exit_code == 1
    assert message in str(done.exception)


@pytest.mark.usefixtures("folder")
def test_a_single_value_is_shown_by_its_name() -> None:
    assert tunesmith("params", "sft.mine.seed").stdout == "seed: 20  # default\n"
    assert tunesmith("params", "sft.mine.dataset").stdout == "dataset: rows\n"


def test_check_names_data_sets_and_models(folder: Path) -> None:
    assert tunesmith("check").stdout == "params.yaml: in order; data sets: rows; models: mine\n"
    (folder / "params.yaml").write_text(PARAMS.replace("dataset: rows, lora", "dataset: rwos, lora"))
    done = tunesmith("check")
    assert done.exit_code == 1
    assert "sft.mine.dataset: no data set 'rwos'; did you mean 'rows'?" in str(done.exception)
