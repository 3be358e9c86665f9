from pathlib import Path

import pytest

from tunesmith.core import params
from tunesmith.core.errors import ParamsError
from tunesmith.core.params import load, read
from tunesmith.models.base_sources import Source
from tunesmith.models.settings import Lora
from tunesmith.runtime.settings import Runtime
from tunesmith.training.entries.sft import Sft

MINE = "sft.mine"


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text)
    return path


def test_a_section_is_read_as_its_type_with_its_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "sft: {mine: {dataset: d, lora: {rank: 8}}}")
    assert load(Lora, f"{MINE}.lora", path=path) == Lora(rank=8, alpha=32, dropout=0.0)
    assert load(Sft, MINE, path=path) == Sft(dataset="d", lora=Lora(rank=8))


def test_an_absent_section_has_its_defaults(tmp_path: Path) -> None:
    assert load(Runtime, "runtime", path=write(tmp_path, "sft: {}")) == Runtime()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sft: {mine: {dataset: d, lora: {rnak: 8}}}", "sft.mine.lora.rnak: unknown param; did you mean 'rank'?"),
        ("sft: {mine: {weights: full}}", "sft.mine.dataset: missing; it has no default"),
        ("sft: {mine: {dataset: d, lora: {rank: many}}}", "sft.mine.lora.rank: Input should be a valid integer"),
        ("sft: {mine: {dataset: d, lora: {rank: -1}}}", "sft.mine.lora.rank: Input should be greater than 0"),
        ("sft: {mien: {dataset: d}}", "no entry 'sft.mine'; did you mean 'mien'?"),
        ("sft: {}", "no entry 'sft.mine'"),
        ("stf: {mine: {dataset: d}}", "unknown section 'stf'; did you mean 'sft'?"),
        ("sft: [", "not YAML"),
        ("[" * 3000, "not YAML"),
        ("", "holds no sections"),
    ],
)
def test_a_mistake_is_named_with_what_was_probably_meant(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ParamsError) as error:
        load(Sft, MINE, path=write(tmp_path, text))
    assert message in str(error.value)
    assert "fix: " in str(error.value)


def test_a_default_that_follows_from_a_wrong_value_is_not_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ParamsError) as error:
        load(Sft, MINE, path=write(tmp_path, "sft: {mine: {dataset: d, weights: everything}}"))
    assert "sft.mine.weights: Input should be 'lora', 'qlora' or 'full', not 'everything'" in error.value.reason
    assert "learning_rate" not in error.value.reason


def test_a_union_of_sections_names_the_param_of_the_chosen_kind(tmp_path: Path) -> None:
    text = "base_model: {kind: hub, repo: a/b, comit: main, chat_template: null}"
    with pytest.raises(ParamsError) as error:
        load(Source, "base_model", path=write(tmp_path, text))
    assert "comit: unknown param; did you mean 'commit'?" in str(error.value)


def test_a_branch_is_no_pin_for_a_hub_repository(tmp_path: Path) -> None:
    text = "base_model: {kind: hub, repo: a/b, commit: main, chat_template: null}"
    with pytest.raises(ParamsError, match="commit"):
        load(Source, "base_model", path=write(tmp_path, text))


@pytest.mark.parametrize("name", ["1st", "a b", "../a", "", "-a"])
def test_an_entrys_name_can_name_a_folder_and_a_stage(name: str) -> None:
    with pytest.raises(ParamsError, match="cannot name an entry"):
        params.parse(dict[params.EntryName, Lora], {name: {}}, "sft")


def test_the_projects_own_params_are_accepted() -> None:
    assert set(read(Path(__file__).parents[2] / "params.yaml")) >= {"base_model", "data", "sft", "evaluate"}


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="run from the project's root"):
        read(tmp_path / "params.yaml")


def test_missing_effective_params_say_which_stage_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=r"build/params/train_sft/mine\.json: not found") as error:
        load(Sft, MINE, path=params.resolved("train_sft", "mine"))
    assert "`dvc repro resolve_params` writes it" in error.value.fix


def test_effective_params_may_hold_names_that_are_no_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = params.resolved("compare")
    path.parent.mkdir(parents=True)
    path.write_text('{"models": ["a", "b"]}')
    assert load(list[str], "models", path=path) == ["a", "b"]
