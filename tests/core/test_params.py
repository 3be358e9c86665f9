from pathlib import Path

import pytest

from tunesmith.core.errors import ParamsError
from tunesmith.core.params import load, read
from tunesmith.models.base_sources import Source
from tunesmith.models.weights import Lora

GOOD = "lora: {rank: 8, alpha: 16, dropout: 0.0}\n"


def params(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text)
    return path


def test_a_section_is_read_as_its_type(tmp_path: Path) -> None:
    assert load(Lora, "lora", path=params(tmp_path, GOOD)) == Lora(rank=8, alpha=16, dropout=0.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lora: {rnak: 8, alpha: 16, dropout: 0.0, rank: 8}", "lora.rnak: unknown param; did you mean 'rank'?"),
        ("lora: {alpha: 16, dropout: 0.0}", "lora.rank: missing"),
        ("lora: {rank: many, alpha: 16, dropout: 0.0}", "lora.rank: Input should be a valid integer"),
        ("lora: {rank: -1, alpha: 16, dropout: 0.0}", "lora.rank: Input should be greater than 0"),
        ("lroa: {rank: 8}", "unknown section 'lroa'; did you mean 'lora'?"),
        ("sft: {}", "no section 'lora'"),
        ("lora: [", "not YAML"),
        ("", "holds no sections"),
    ],
)
def test_a_mistake_is_named_with_what_was_probably_meant(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ParamsError) as error:
        load(Lora, "lora", path=params(tmp_path, text))
    assert told in str(error.value)
    assert "fix: " in str(error.value)


def test_a_union_of_sections_names_the_param_of_the_chosen_kind(tmp_path: Path) -> None:
    text = "base_model: {kind: hub, repo: a/b, comit: main, chat_template: null}"
    with pytest.raises(ParamsError) as error:
        load(Source, "base_model", path=params(tmp_path, text))
    assert "comit: unknown param; did you mean 'commit'?" in str(error.value)


def test_a_branch_is_no_pin_for_a_hub_repository(tmp_path: Path) -> None:
    text = "base_model: {kind: hub, repo: a/b, commit: main, chat_template: null}"
    with pytest.raises(ParamsError, match="commit"):
        load(Source, "base_model", path=params(tmp_path, text))


def test_the_projects_own_params_are_accepted() -> None:
    assert set(read(Path(__file__).parents[2] / "params.yaml")) >= {"base_model", "data", "sft", "evaluate"}


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="run from the project's root"):
        read(tmp_path / "params.yaml")
