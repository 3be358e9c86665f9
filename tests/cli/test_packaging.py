import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith.cli import packaging
from tunesmith.core.errors import ParamsError

ROOT = Path(__file__).parents[2]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())


def look_over(folder: Path, merged: list[str], pipeline: Any = PIPELINE, **changes: dict[str, str]) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["package"]["merged"] = merged
    for section, change in changes.items():
        params[section] |= change
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    packaging.check(folder / "params.yaml")


def followed(fix: str) -> dict[str, Any]:
    """The project's pipeline with every line added that a fix asks for."""
    pipeline: dict[str, Any] = copy.deepcopy(PIPELINE)
    for place, added in re.findall(r"to ([\w.]+): (.*)", fix):
        *path, key = place.split(".")
        entry = pipeline["stages"]
        for name in path:
            entry = entry[name]
        entry[key] += f" {added}" if key == "cmd" else yaml.safe_load(added if added[0] == "-" else f"- {added}")
    return pipeline


def test_nothing_is_merged_unless_asked_for(tmp_path: Path) -> None:
    look_over(tmp_path, [])


@pytest.mark.parametrize("name", packaging.ADAPTERS)
def test_what_is_merged_must_be_evaluated_compared_and_registered(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParamsError, match=f"models/{name}-merged would be made, but not evaluated") as error:
        look_over(tmp_path, [name])
    look_over(tmp_path, [name], followed(error.value.fix))


@pytest.mark.parametrize(
    "line",
    [
        ("evaluate", "cmd"),
        ("evaluate", "deps"),
        ("evaluate", "outs"),
        ("evaluate", "metrics"),
        ("compare", "cmd"),
        ("compare", "deps"),
        ("register", "foreach"),
    ],
)
def test_each_lacking_line_is_told_alone(tmp_path: Path, line: tuple[str, str]) -> None:
    with pytest.raises(ParamsError) as error:
        look_over(tmp_path, ["dpo"])
    pipeline, (stage, key) = followed(error.value.fix), line
    pipeline["stages"][stage][key] = PIPELINE["stages"][stage][key]
    with pytest.raises(ParamsError) as error:
        look_over(tmp_path, ["dpo"], pipeline)
    assert set(re.findall(r"to ([\w.]+):", error.value.fix)) == {f"{stage}.{key}"}


def test_the_full_weights_under_an_adapter_are_a_dependency_of_merging(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"to merge\.do\.deps: - models/sft-full") as error:
        look_over(tmp_path, ["dpo"], dpo={"start": "sft-full"})
    look_over(tmp_path, ["dpo"], followed(error.value.fix), dpo={"start": "sft-full"})


def test_a_merged_model_that_nothing_makes_is_told(tmp_path: Path) -> None:
    with pytest.raises(ParamsError) as error:
        look_over(tmp_path, ["dpo"])
    with pytest.raises(ParamsError, match="evaluate names dpo-merged, which nothing makes"):
        look_over(tmp_path, [], followed(error.value.fix))


@pytest.mark.parametrize(
    ("merged", "changes", "told"),
    [
        ("sft-lroa", {}, "no adapter 'sft-lroa'; did you mean 'sft-lora'"),
        ("reward", {}, "no adapter 'reward'"),
        ("../sft-lora", {}, "no adapter '../sft-lora'"),
        ("sft-full", {}, "nothing to merge"),
        ("dpo", {"dpo": {"weights": "full"}}, "all weights of dpo are trained"),
    ],
)
def test_what_cannot_be_merged_is_told(tmp_path: Path, merged: str, changes: Any, told: str) -> None:
    with pytest.raises(ParamsError, match=re.escape(told)):
        look_over(tmp_path, [merged], **changes)
