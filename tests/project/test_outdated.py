"""params.yaml of version 0.1.0 is refused with an edit; applied, it means the same."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith.core import params
from tunesmith.core.errors import ParamsError
from tunesmith.project import checks, document
from tunesmith.registry.tracker import Names

OLD = Path(__file__).with_name("params-0.1.0.yaml")
WEIGHTS = ("lora", "qlora", "full")


def edit(text: str, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """The sections that the refusal names for removal, and those that it prints for their place."""
    path = folder / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=r"written for version 0\.1\.0") as error:
        document.load(path)
    removed, block = re.fullmatch(
        r"remove the sections (.*), and put in their place:\n\n(.*)", error.value.fix, re.DOTALL
    ).groups()
    return removed.split(", "), yaml.safe_load(block)


def test_the_edit_loads_passes_the_checks_and_means_the_same(tmp_path: Path) -> None:
    old = yaml.safe_load(OLD.read_text())
    removed, added = edit(OLD.read_text(), tmp_path)
    assert set(removed) == {"lora", "sft", "dpo", "reward", "rlhf", "grpo", "package"}
    new = {name: value for name, value in old.items() if name not in removed} | added
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(new, sort_keys=False))
    project = document.load(tmp_path / "params.yaml")
    checks.check(project, tmp_path / "params.yaml")

    assert list(project.trainings) == ["sft-lora", "sft-qlora", "sft-full", "dpo", "reward", "rlhf", "grpo"]
    for name, (objective, entry) in project.trainings.items():
        values = document.effective(entry)
        weights = name.removeprefix("sft-") if objective == "sft" else old[objective]["weights"]
        assert values.pop("weights") == weights
        assert values.pop("learning_rate") == old[objective]["learning_rate"][weights]
        if weights != "full":
            assert values["lora"] | old["lora"] == values["lora"]
        assert values.pop("lora")
        if objective == "rlhf":
            assert values.pop("reward") == "reward"
        expected = {key: value for key, value in old[objective].items() if key not in ("weights", "learning_rate")}
        assert values | expected == values  # params that came later have their defaults
    for name, dataset in project.data.items():
        values = document.effective(dataset)
        assert values | old["data"][name] == values
    assert document.effective(project.package) == {"merged": {}, "license": old["package"]["license"]}
    for section in ("evaluate", "compare", "gate", "registry", "runtime", "serve"):
        stated, effective = old[section], document.effective(getattr(project, section))
        for suite in effective.get("suites", {}).values():
            assert suite.pop("chat_template_kwargs") == {}, "which came later"
            assert suite.pop("refusal_by", "rules") == "rules", "which came later"
        assert {key: effective[key] for key in stated if key != "rules"} == {
            key: value for key, value in stated.items() if key != "rules"
        }


def test_adapters_to_merge_become_named_models(tmp_path: Path) -> None:
    text = OLD.read_text().replace("  merged: []", "  merged: [sft-lora, dpo]")
    _, added = edit(text, tmp_path)
    assert added["package"]["merged"] == {"sft-lora-merged": {"adapter": "sft-lora"}, "dpo-merged": {"adapter": "dpo"}}


def test_commands_that_read_one_section_say_where_the_edit_is(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(OLD.read_text())
    with pytest.raises(ParamsError) as error:
        params.load(Names, "registry", path=tmp_path / "params.yaml")
    assert "`tunesmith check` prints the edit that it needs" in error.value.fix


@pytest.mark.parametrize("name", ["dataset", "sft"])
def test_an_entry_may_have_any_name(tmp_path: Path, name: str) -> None:
    text = {"data": {"d": {"path": "x"}}, "sft": {name: {"dataset": "d"}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(text))
    assert list(document.load(tmp_path / "params.yaml").sft) == [name]
