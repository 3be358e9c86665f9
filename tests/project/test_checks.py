from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith.core import layout
from tunesmith.core.errors import TunesmithError
from tunesmith.project import checks, default_suites, document
from tunesmith.project.document import Document
from tunesmith.registry.provenance import worktree

ROOT = Path(__file__).parents[2]


def check(folder: Path, change: Any) -> Document:
    """Check the project's own params after a change."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    change(params)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    project = document.load(folder / "params.yaml")
    checks.check(project, folder / "params.yaml")
    return project


def test_the_projects_own_params_are_in_order(tmp_path: Path) -> None:
    project = check(tmp_path, lambda p: None)
    assert {"demo", "demo_pairs", "demo_prompts", "demo_marks", *default_suites.NAMES} <= set(project.data)
    assert project.models == ["sft-lora", "sft-qlora", "sft-full", "dpo", "kto", "rlhf", "grpo"]


def test_a_work_tree_may_lack_the_files_of_data_sets_that_its_stages_do_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TunesmithError, match=r"data\.mine\.path: data/raw/mine\.jsonl: no such file"):
        check(tmp_path, source(path="data/raw/mine.jsonl"))
    tree = worktree.Worktree(tmp_path, tmp_path, tmp_path, keep=False)
    monkeypatch.setenv(name := layout.PARTIAL_VARIABLE, tree.environment()[name])
    check(tmp_path, source(path="data/raw/mine.jsonl"))


def entry(objective: str, name: str, **changes: Any) -> Any:
    """A change of an entry's values, or a new entry: a copy of the one that has the name of its objective."""

    def change(params: dict[str, Any]) -> None:
        params[objective][name] = params[objective].get(name, params[objective].get(objective)) | changes

    return change


def merged(**entries: str) -> Any:
    return lambda p: p["package"].update(merged={name: {"adapter": adapter} for name, adapter in entries.items()})


def source(**values: Any) -> Any:
    return lambda p: p["data"].update(mine=values)


def suite(**values: Any) -> Any:
    return lambda p: p["evaluate"]["suites"].update(other=values)


def hosted(change: Any) -> Any:
    """A change beside a hosted model that is the gate's baseline."""

    def both(params: dict[str, Any]) -> None:
        params["baseline"] = {"base_url": "https://example.com/v1", "model": "ft:mine"}
        params["gate"]["against"] = "baseline"
        params["gate"]["rules"] = [rule for rule in params["gate"]["rules"] if rule.get("suite") != "general"]
        change(params)

    return both


def mixture(*names: str) -> Any:
    """A mixture that sft-lora learns from."""

    def change(params: dict[str, Any]) -> None:
        params["mixtures"] |= {"mixed": {"datasets": [{"name": name} for name in names]}}
        params["sft"]["sft-lora"]["dataset"] = "mixed"
        params["data"]["more"] = params["data"]["demo"]
        params["data"]["demo_pairs"]["kind"] = "preferences"

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.update(demmo=p.pop("demo")), "unknown section 'demmo'; did you mean 'demo'?"),
        (entry("sft", "sft-lora", datset="demo"), "sft.sft-lora.datset: unknown param; did you mean 'dataset'?"),
        (lambda p: p["sft"]["sft-lora"].pop("dataset"), "sft.sft-lora.dataset: missing; it has no default"),
        (entry("sft", "sft-lora", dataset="dmo"), "sft.sft-lora.dataset: no data set 'dmo'; did you mean 'demo'?"),
        (source(limit=40), "data.mine.limit: takes params of its own (train, validation, test), not 40"),
        (entry("dpo", "dpo", max_bite=6), "dpo.dpo.max_bite: unknown param\n"),  # max_bytes is of a data set
        (entry("dpo", "dpo", lora={"ranks": 6}), "dpo.dpo.lora.ranks: unknown param; did you mean 'rank'?"),
        (source(path="data/tasks"), "data.mine.path: data/tasks: no file of rows, only README.md"),
        (
            source(path="data/x-*.jsonl"),
            "data/x-*.jsonl is a pattern, and DVC watches a file or a folder\n  fix: write "
            "path: data and files: 'x-*.jsonl'",
        ),
        (source(path="data/tasks", files="*.csv"), "data.mine.path: data/tasks/*.csv: no file of rows"),
        (source(path="data"), "data.mine.path: stages write into data, and DVC lets none depend on it"),
        (source(path="data/tasks", files="../*.csv"), "data.mine.files: not a pattern of files below the folder"),
        (source(path="data/tasks", files="**.csv"), "data.mine.files: `**` stands for whole folders"),
        (suite(dataset="x", verifier="exact"), "evaluate.suites.other.dataset: no data set 'x'"),
        (suite(dataset="demo", verifier="number", refusal_by="judge"), "no effect on the verifier number"),
        (suite(dataset="demo", verifier="refusal", refusal_by="judge"), "other.refusal_by: params.yaml names no judge"),
        (entry("grpo", "grpo", rewards={"refusal": 1}), "which a policy learns to write: with it in rewards, say"),
        (entry("grpo", "grpo", refusal_by="rules"), "without it, leave refusal_by out"),
        (
            entry("grpo", "grpo", rewards={"refusal": 1}, refusal_by="judge"),
            "grpo.grpo.refusal_by: params.yaml names no judge",
        ),
        (suite(kind="perplexity", dataset="demmo"), "suites.other.dataset: no data set 'demmo'; did you mean 'demo'?"),
        (suite(task="tasks/mine.yaml"), "suites.other.task: tasks/mine.yaml is not in data/tasks"),
        (suite(task="data/tasks/../mine.yaml"), "data/tasks/../mine.yaml is not in data/tasks"),
        (suite(task="data/tasks/none.yaml"), "suites.other.task: no file or folder data/tasks/none.yaml"),
        (suite(task="mine", include_path="tasks"), "suites.other.include_path: tasks is not in data/tasks"),
        (lambda p: p["gate"]["rules"][0].update(by=5), "5 is no margin of the share score on 'arithmetic'"),
        (lambda p: p["evaluate"].update(suites={}), "evaluate.suites: missing; models would be trained and not"),
        (lambda p: p["gate"]["rules"][1].update(suite="general"), "the suite 'general' has no stopped"),
        (lambda p: p["gate"]["rules"][3].update(metric="seconds"), "gate.rules.3"),
        (lambda p: p["gate"]["rules"][0].update(suite="arithmetics"), "no suite 'arithmetics'; did you mean 'arith"),
        (lambda p: p["gate"].update(against="sft-lroa"), "gate.against: no model 'sft-lroa'; did you mean 'sft-lora'?"),
        (lambda p: p["gate"].update(against="reward"), "gate.against: no model 'reward'"),
        (lambda p: p["gate"].update(against="baseline"), "gate.against: no model 'baseline'"),
        (
            hosted(lambda p: p["gate"]["rules"][0].update(suite="general")),
            "hosted model answers no suite of kind pre",
        ),
        (hosted(entry("dpo", "baseline")), "dpo.baseline: the name is taken by the hosted model"),
        (lambda p: p.update(baseline={"model": "x"}), "baseline.base_url: missing; it has no default"),
        (mixture("demo", "dmo"), "mixtures.mixed.datasets: no data set 'dmo'; did you mean 'demo'?"),
        (mixture("demo", "demo_pairs"), "sft.sft-lora.dataset: data.demo_pairs: SFT cannot learn from preference"),
        (
            lambda p: p.update(mixtures={"demo": {"datasets": [{"name": "demo"}, {"name": "demo_prompts"}]}}),
            "mixtures.demo: the name is taken by data.demo",
        ),
        (
            entry("sft", "sft-lora", dataset=[{"name": "demo", "weight": 2}, {"name": "more"}]),
            "write mixtures: {mixed: {datasets: [{name: demo, weight: 2}, {name: more}]}} and dataset: mixed",
        ),
        (lambda p: p["data"].update({"my.set": p["data"]["demo"]}), "'my.set' cannot name an entry"),
        (lambda p: p["data"].update({2024: p["data"]["demo"]}), "data.2024"),
        (lambda p: p["data"]["demo"].update(paht="x"), "data.demo.paht: unknown param; did you mean 'path'?"),
        (lambda p: p["data"]["demo"].update(path="nowhere.csv"), "data.demo.path: nowhere.csv: no such file or folder"),
        (
            lambda p: p["data"]["demo"].update(held_out={"path": "data/held_out/no"}),
            "no file or folder data/held_out/no",
        ),
        (lambda p: p["data"]["demo"].update(held_out={"path": "README.md"}), "README.md is not in data/held_out"),
        (lambda p: p["data"]["demo"].update(held_out={"path": "data/held_out/../x"}), "x is not in data/held_out"),
        (lambda p: p["data"]["demo"].update(verifier="nummer"), "unknown verifier 'nummer'; use one of choice"),
        (lambda p: p["data"]["demo"].update(columns={"prmpt": "q"}), "data.demo.columns.prmpt"),
        (lambda p: p["data"]["demo"].update(columns={"prompt": "{{ q"}), "not a Jinja template"),
        (
            lambda p: p["data"]["demo"].update(splits={"validation": 0.5, "test": 0.5}),
            "sft.sft-lora.dataset: the train split of data.demo has no rows",
        ),
        (
            lambda p: (
                p["data"]["demo"].update(limit={"validation": 0}),
                p["sft"]["sft-lora"].update(dataset="demo", patience=2),
            ),
            "sft.sft-lora.patience: the validation split of data.demo has no rows",
        ),
        (
            lambda p: p["data"]["demo_prompts"].update(limit={"test": 0}),
            "evaluate.suites.brevity.dataset: the test split of data.demo_prompts has no rows",
        ),
        (
            lambda p: p["data"]["demo"].update(splits={"test": 0}),
            "evaluate.suites.arithmetic.dataset: the test split of data.demo has no rows\n  fix: give it a share",
        ),
        (
            lambda p: (
                p["data"].update(thumbs={"path": "params.yaml", "kind": "marks"}),
                p["evaluate"]["suites"].update(t={"dataset": "thumbs", "verifier": "exact"}),
            ),
            "evaluate.suites.t.dataset: answers of data.thumbs are marked bad, and cannot judge a model",
        ),
        (lambda p: p["data"]["demo"].update(kind="preferences"), "SFT cannot learn from preference pairs"),
        (
            lambda p: (p["data"]["demo"].update(kind="answers"), p["dpo"]["dpo"].update(dataset="demo")),
            "dpo.dpo.dataset: data.demo: DPO cannot learn from answers",
        ),
        (
            lambda p: (
                p["data"]["demo_pairs"].update(kind="preferences"),
                p["grpo"]["grpo"].update(dataset="demo_pairs"),
            ),
            "grpo.grpo.dataset: data.demo_pairs: GRPO cannot learn from",
        ),
        (lambda p: p.update(signing={"trusted": ["keys/ada.pub"]}), "keys/ada.pub: not a readable key in PEM"),
        (lambda p: p.update(signing={"kind": "pgp"}), "signing: Input tag 'pgp' found using"),
        (lambda p: p.update(serve={"max_lora_rank": 20}), "serve.max_lora_rank: Input should be 8, 16, 32"),
        (
            lambda p: p.update(serve={"context_length": 512}),
            "serve.context_length: now serve.max_model_len; write 512 there",
        ),
        (lambda p: p.update(serve={"python": "x"}), "serve.python: now engine.python; write 'x' there"),
        (
            lambda p: p.update(serve={"args": ["--dtype", "half"]}),
            "--dtype may not be among the arguments: engine.dtype",
        ),
        (lambda p: p.update(serve={"args": ["--max_lora=2"]}), "--max-lora may not be among the arguments: it follows"),
        (lambda p: p.update(runtime={"engine": "docker"}), "runtime.image: engine docker needs one"),
        (entry("rlhf", "rlhf", start="sft-lroa"), "rlhf.rlhf.start: no model to start from 'sft-lroa'; did you mean"),
        (entry("rlhf", "rlhf", start="reward"), "rlhf.rlhf.start: no model to start from 'reward'"),
        (entry("rlhf", "rlhf", reward="sft-lora"), "rlhf.rlhf.reward: no reward model 'sft-lora'"),
        (entry("dpo", "sft-lora", start="base"), "dpo.sft-lora: the name is taken by sft.sft-lora"),
        (entry("dpo", "base"), "dpo.base: the name is taken by the base model"),
        (merged(dpo="sft-lora"), "package.merged.dpo: the name is taken by dpo.dpo"),
        (merged(m="sft-lroa"), "package.merged.m.adapter: no adapter 'sft-lroa'; did you mean 'sft-lora'?"),
        (merged(m="reward"), "package.merged.m.adapter: no adapter 'reward'"),
        (merged(m="sft-full"), "package.merged.m.adapter: all weights of sft-full are trained: there is nothing to"),
    ],
)
def test_what_would_stop_the_pipeline_is_named_with_what_was_probably_meant(
    tmp_path: Path, change: Any, message: str
) -> None:
    with pytest.raises(TunesmithError) as error:
        check(tmp_path, change)
    assert message in str(error.value)
    assert "fix: " in str(error.value)


def test_models_that_start_from_each_other_are_a_circle(tmp_path: Path) -> None:
    def change(params: dict[str, Any]) -> None:
        params["dpo"]["a"] = params["dpo"]["dpo"] | {"start": "b"}
        params["dpo"]["b"] = params["dpo"]["dpo"] | {"start": "a"}

    with pytest.raises(TunesmithError, match="a starts from b starts from a: a circle"):
        check(tmp_path, change)


def test_a_model_that_starts_from_itself_is_a_circle(tmp_path: Path) -> None:
    with pytest.raises(TunesmithError, match="dpo starts from dpo: a circle"):
        check(tmp_path, entry("dpo", "dpo", start="dpo"))


def test_a_start_may_be_named_before_it_and_may_be_the_base(tmp_path: Path) -> None:
    def change(params: dict[str, Any]) -> None:
        params["dpo"] = {"first": params["dpo"]["dpo"] | {"start": "second"}, "second": params["dpo"]["dpo"]}
        params["dpo"]["second"]["start"] = "base"

    assert {"first", "second"} <= set(check(tmp_path, change).models)


def test_a_merged_model_is_evaluated_and_can_be_the_gates_baseline(tmp_path: Path) -> None:
    def change(params: dict[str, Any]) -> None:
        merged(whole="sft-lora")(params)
        params["gate"]["against"] = "whole"

    assert check(tmp_path, change).models[-1] == "whole"


def test_a_mixture_trains_like_a_data_set_and_a_hosted_model_can_be_the_gates_baseline(tmp_path: Path) -> None:
    project = check(tmp_path, hosted(mixture("demo", "more")))
    assert project.parts("mixed") == ["demo", "more"]
    assert {project.data[name].kind for name in ("demo", "more")} == {"answers"}


@pytest.mark.parametrize("values", [{"task": "gsm8k"}, {"task": "mine", "include_path": "data/tasks"}])
def test_a_task_is_a_name_of_lm_evals_or_in_a_folder_where_dvc_sees_it_change(
    tmp_path: Path, values: dict[str, str]
) -> None:
    check(tmp_path, suite(**values))


def test_trainings_need_no_validation_rows_and_test_rows_are_needed_by_suites_alone(tmp_path: Path) -> None:
    def change(params: dict[str, Any]) -> None:
        for dataset in params["data"].values():
            dataset.update(limit={"validation": 0}, splits={"validation": 0.0, "test": 0.25})
        params["data"]["demo_marks"]["splits"]["test"] = params["data"]["demo_chat"]["splits"]["test"] = 0.0

    check(tmp_path, change)


def test_prompts_that_name_their_own_verifier_train_grpo(tmp_path: Path) -> None:
    check(tmp_path, lambda p: p["data"]["demo_prompts"].pop("verifier", None))


def test_the_default_place_of_held_out_rows_is_there(tmp_path: Path) -> None:
    project = check(tmp_path, lambda p: None)
    assert {dataset.held_out.path for dataset in project.data.values()} == {Path("data/held_out")}
