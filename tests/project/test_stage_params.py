from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith.core import params
from tunesmith.core.ready_rows import write_json
from tunesmith.evaluation.gate_rules import Gate
from tunesmith.project import document, stage_params
from tunesmith.training.entries.dpo import Dpo

ROOT = Path(__file__).parents[2]


def of(text: dict[str, Any], folder: Path) -> dict[str, dict[str, object]]:
    """The effective params of every stage, by path in build/params."""
    (folder / "params.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
    parts = stage_params.of(document.load(folder / "params.yaml"))
    return {str(part.path.relative_to(params.RESOLVED)): part.values for part in parts}


@pytest.fixture
def own() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    return loaded


def test_every_file_that_dvc_yaml_names_is_written_and_no_other(own: dict[str, Any], tmp_path: Path) -> None:
    own["package"]["merged"] = {"whole": {"adapter": "sft-lora"}}
    own["mixtures"] = {"mixed": {"datasets": [{"name": "demo"}, {"name": "demo_prompts"}]}}
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    expected = set()
    for stage in stages.values():
        section = stage["foreach"].strip("${}") if "foreach" in stage else None
        entries = document.effective(document.Document.model_validate(own)) if section else {}
        for part in section.split(".") if section else ():
            entries = entries[part]
        for dep in (stage.get("do") or stage).get("deps", ()):
            if dep.startswith("build/params/"):
                file = dep.removeprefix("build/params/")
                expected |= {file.replace("${key}", key) for key in entries} if section else {file}
    assert set(of(own, tmp_path)) == expected
    assert "fingerprint" in stages


JUDGE = {"base_url": "http://127.0.0.1:9/v1", "model": "mine"}


def test_the_judge_is_a_param_of_the_stages_that_ask_it(own: dict[str, Any], tmp_path: Path) -> None:
    own["judge"] = JUDGE
    own["evaluate"]["suites"]["manners"] = {"dataset": "demo", "verifier": "refusal", "refusal_by": "judge"}
    own["grpo"]["grpo"] |= {"rewards": {"refusal": 1.0}, "refusal_by": "judge"}
    stale = changed(own, tmp_path, lambda p: p.update(judge=JUDGE | {"model": "another"}))
    assert stale == {"evaluate.json", "train_grpo/grpo.json"}


def test_the_engine_is_a_param_of_the_trainings_that_it_writes_completions_for(
    own: dict[str, Any], tmp_path: Path
) -> None:
    own["grpo"]["on-vllm"] = own["grpo"]["grpo"] | {"rollouts": {"engine": "vllm"}}
    stale = changed(own, tmp_path, lambda p: p.update(engine={"batch_invariant": True}))
    assert {stage for stage in stale if stage.startswith("train_")} == {"train_grpo/on-vllm.json"}


def changed(own: dict[str, Any], folder: Path, change: Any) -> set[str]:
    """The stages whose params a change of params.yaml changes."""
    before = of(own, folder)
    change(own)
    after = of(own, folder)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (lambda p: p["dpo"]["dpo"].update(beta=0.5), {"train_dpo/dpo.json"}),
        (lambda p: p["dpo"]["dpo"].update(max_length=64), {"train_dpo/dpo.json", "reference/dpo.json"}),
        (lambda p: p["dpo"]["dpo"].update(beta=0.1), set()),  # the default, stated
        (lambda p: p["sft"]["sft-lora"].update(seed=1), {"train_sft/sft-lora.json"}),
        (lambda p: p["data"]["demo"].update(max_length=64), {"prepare_data/demo.json"}),
        (lambda p: p["base_model"].update(chat_template_kwargs={"enable_thinking": False}), {"fetch_base.json"}),
        (
            lambda p: p["evaluate"]["suites"]["arithmetic"].update(chat_template_kwargs={"enable_thinking": True}),
            {"evaluate.json"},
        ),
        (lambda p: p["gate"].update(power=0.9), {"compare.json"}),
        (lambda p: p.update(baseline={"base_url": "https://example.com/v1", "model": "x"}), {"baseline.json"}),
        (
            lambda p: p["mixtures"].update(mixed={"datasets": [{"name": "demo"}, {"name": "demo_prompts"}]}),
            {"mix/mixed.json"},
        ),
        (lambda p: p.update(judge=JUDGE), set()),  # nothing asks it
        (lambda p: p.update(engine={"batch_invariant": True}), {"evaluate.json"}),
        (lambda p: p.update(engine={"dtype": "auto"}), set()),  # the default, stated
        (lambda p: p.update(serve={"port": 9000}), set()),
        (lambda p: p.update(serve={"probes": 9}), {"register.json"}),
        (lambda p: p.update(runtime={"memory": "16g", "checkpoint_minutes": 10}), set()),
        (
            lambda p: p["dpo"].update(other=p["dpo"]["dpo"] | {"beta": 0.5}),
            {"train_dpo/other.json", "reference/other.json", "evaluate.json", "compare.json", "register.json"},
        ),
    ],
)
def test_a_value_changes_the_params_of_the_stages_that_read_it_and_no_other(
    own: dict[str, Any], tmp_path: Path, change: Any, stale: set[str]
) -> None:
    assert changed(own, tmp_path, change) == stale


def test_the_image_is_a_param_of_every_stage_that_may_run_in_it(own: dict[str, Any], tmp_path: Path) -> None:
    runtime = {"engine": "docker", "image": "sha256:" + "a" * 64}
    stale = changed(own, tmp_path, lambda p: p.update(runtime=runtime))
    assert {name.split("/")[0] for name in stale} == {
        "fetch_base.json",
        *(f"train_{objective}" for objective in params.OBJECTIVES if objective in own),
        "reference",
        "evaluate.json",
    }


def test_stages_load_their_effective_params_as_their_sections(
    own: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, values in of(own, tmp_path).items():
        write_json(params.RESOLVED / name, values)
    project = document.load()
    assert params.load(Dpo, "dpo.dpo", path=params.resolved("train_dpo", "dpo")) == project.dpo["dpo"]
    assert params.load(Gate, "gate", path=params.resolved("compare")) == project.gate
    assert params.load(list[str], "models", path=params.resolved("evaluate")) == project.models
