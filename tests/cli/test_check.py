from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith.cli.check import check
from tunesmith.core.errors import TunesmithError

ROOT = Path(__file__).parents[2]


def look_over(folder: Path, change: Any) -> list[str]:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    change(params)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return check(folder / "params.yaml")


def test_the_projects_own_params_are_in_order() -> None:
    assert check(ROOT / "params.yaml") == ["demo", "demo_pairs", "demo_prompts"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: p.update(demmo=p.pop("demo")), "unknown section 'demmo'; did you mean 'demo'?"),
        (lambda p: p.pop("lora"), "no section 'lora'"),
        (lambda p: p["sft"].update(datset=p["sft"].pop("dataset")), "no section 'sft.dataset'; did you mean 'datset'?"),
        (lambda p: p["sft"].update(dataset="dmo"), "sft.dataset: no data set 'dmo'; did you mean 'demo'?"),
        (lambda p: p["evaluate"]["suites"]["arithmetic"].update(dataset="x"), "suites.arithmetic.dataset: no data set"),
        (lambda p: p["gate"]["rules"][1].update(suite="preferences"), "the suite 'preferences' has no stopped"),
        (lambda p: p["gate"]["rules"][3].update(metric="seconds"), "gate.rules.3"),
        (lambda p: p["gate"]["rules"][0].update(suite="arithmetics"), "no suite 'arithmetics'; did you mean 'arith"),
        (lambda p: p["data"].update({"my.set": p["data"]["demo"]}), "data.my.set: not a name that a stage can have"),
        (lambda p: p["data"].update({2024: p["data"]["demo"]}), "data.2024: not a name that a stage can have"),
        (lambda p: p["data"]["demo"].update(paht="x"), "data.demo.paht: unknown param; did you mean 'path'?"),
        (lambda p: p["data"]["demo"].update(path="nowhere.csv"), "data.demo.path: no file nowhere.csv"),
        (lambda p: p["data"]["demo"]["held_out"].update(path="no"), "data.demo.held_out.path: no file or folder no"),
        (lambda p: p["data"]["demo"].update(verifier="nummer"), "unknown verifier 'nummer'; there is choice"),
        (lambda p: p["data"]["demo"].update(columns={"prmpt": "q"}), "data.demo.columns.prmpt"),
        (lambda p: p["data"]["demo"].update(columns={"prompt": "{{ q"}), "not a Jinja template"),
        (lambda p: p["data"]["demo"].update(kind="preferences"), "SFT cannot learn from preference pairs"),
        (lambda p: p["dpo"].update(dataset="demo"), "dpo.dataset: data.demo: DPO cannot learn from answers"),
        (
            lambda p: p["grpo"].update(dataset="demo_pairs"),
            "grpo.dataset: data.demo_pairs: GRPO cannot learn from",
        ),
        (lambda p: p["signing"].update(trusted=["keys/ada.pub"]), "keys/ada.pub: not a readable key in PEM"),
        (lambda p: p["signing"].update(kind="pgp"), "signing: Input tag 'pgp' found using 'kind'"),
        (lambda p: p["serve"].update(max_lora_rank=20), "serve.max_lora_rank: Input should be 8, 16, 32"),
        (lambda p: p["rlhf"].update(start="sft-lroa"), "rlhf.start: no model to start from 'sft-lroa'; did you mean"),
    ],
)
def test_what_dvc_would_stumble_over_is_told_with_what_was_meant(tmp_path: Path, change: Any, told: str) -> None:
    with pytest.raises(TunesmithError) as error:
        look_over(tmp_path, change)
    assert told in str(error.value)
