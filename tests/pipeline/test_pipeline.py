"""The pipeline's contract: dvc.yaml declares what stages do; and a project with every method, run on a tiny model."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm_python
import yaml
from pipeline_project import ALL, ROOT, Project, running

from tunesmith.core import manifest
from tunesmith.models.settings import Lora

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ON_THE_ENGINE = "exec python -m tunesmith.runtime "
TRAINED = ("sft-lora", "sft-qlora", "sft-full", "dpo", "kto", "rlhf", "grpo")


def declared(stage: str, kind: str) -> list[str]:
    entry = PIPELINE[stage]
    values = entry.get("do", entry).get(kind, [])
    return [name for value in values for name in (value if isinstance(value, dict) else [value])]


def command(stage: str) -> str:
    entry = PIPELINE[stage]
    return str(entry.get("do", entry)["cmd"])


def test_each_stage_has_a_file() -> None:
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} == set(PIPELINE)


def test_the_pipeline_is_short_and_names_no_data_set_model_or_suite() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert len(text.splitlines()) <= 200
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    entries = [*params["data"], *params["evaluate"]["suites"]]
    entries += [name for method in ("sft", "dpo", "kto", "reward", "rlhf", "grpo") for name in params[method]]
    text = re.sub(r"(?s)  generate_demo:.*?\n\n", "", text)  # the generator of the demo's own data
    words = set(re.findall(r"(?<![\w/$.{-])[\w-]+(?![\w(-])", re.sub(r"#.*", "", text)))
    assert not words & (set(entries) - set(yaml.safe_load(text)["vars"][0]))


def test_every_stage_depends_on_its_own_code_and_its_own_params() -> None:
    for stage in PIPELINE.keys() - {"fingerprint"}:
        deps = declared(stage, "deps")
        assert f"build/code/{stage}" in deps
        own = f"build/params/{stage}/${{key}}.json" if "foreach" in PIPELINE[stage] else f"build/params/{stage}.json"
        assert (own if stage != "resolve_params" else "params.yaml") in deps


def test_trainings_and_evaluations_run_where_params_say() -> None:
    expected = {stage for stage in PIPELINE if stage.startswith("train_")}
    expected |= {"fetch_base", "prepare_data", "reference", "merge", "evaluate"}
    assert {stage for stage in PIPELINE if command(stage).startswith(ON_THE_ENGINE)} == expected


def test_every_output_outlives_a_failed_run() -> None:
    for stage, entry in PIPELINE.items():
        body = entry.get("do", entry)
        for output in [*body.get("outs", []), *body.get("metrics", [])]:
            assert isinstance(output, dict), f"{stage}: {output}"
            assert next(iter(output.values())) == {"persist": True}


# The whole pipeline, once, on a tiny model.


@pytest.fixture(scope="module")
def project(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("pipeline") / "project"
    folder.mkdir()
    project = Project(folder, tiny_folder, ALL, warm_python.folder())
    project.run("dvc", "repro")
    return project


@pytest.fixture
def params_restored(project: Project) -> Iterator[None]:
    before = project.params
    yield
    project.params = before


def test_the_pipeline_ends_in_registered_models(project: Project) -> None:
    comparison = project.read("reports/comparison.json")
    assert set(comparison["models"]) == {"base", *TRAINED, "lora-merged"}
    assert comparison["prompts"] == 12
    assert comparison["models"]["dpo"]["training"]["predicted_memory_bytes"] > 1e6
    for name in (*TRAINED, "lora-merged"):
        record = project.read(f"reports/registered/{name}/registration.json")
        assert (record["registered_model"], record["model"]) == ("calculator", name)
        assert (project.folder / f"reports/registered/{name}/README.md").exists()
        manifest.verify(project.folder / "models" / name)


def test_every_model_answered_the_same_prompts(project: Project) -> None:
    base, *tuned = (project.read(f"reports/evaluation/{name}/metrics.json") for name in ("base", *TRAINED))
    for key in ("template_digest", "base_weights_digest", "key"):
        assert {metrics[key] for metrics in tuned} == {base[key]}
    assert list(base["suites"]) == ["arithmetic", "preferences"]
    for suite, measures in base["suites"].items():
        assert {metrics["suites"][suite]["prompts_digest"] for metrics in tuned} == {measures["prompts_digest"]}


def test_metrics_hold_each_models_score_and_plots_a_table_for_each_suite_and_training(project: Project) -> None:
    scores = project.read("reports/metrics.json")
    assert set(scores) == {"base", *TRAINED, "lora-merged"}
    assert scores["dpo"] == pytest.approx(project.read("reports/comparison.json")["models"]["dpo"]["score"], abs=1e-4)
    names = {path.name for path in (project.folder / "reports/scores").iterdir()}
    assert names == {"arithmetic.csv", "preferences.csv"}
    losses = {path.stem for path in (project.folder / "reports/losses").iterdir()}
    assert losses == {*TRAINED, "lora-merged", "reward"}
    shown = project.run("dvc", "plots", "show", "--out", f"{project.folder}-plots")
    assert "find provided field" not in shown.stderr
    page = Path(f"{project.folder}-plots", "index.html").read_text()
    assert '"field": "validation"' in page


def test_the_comparison_says_which_step_each_training_kept_and_why(project: Project) -> None:
    compared = project.read("reports/comparison.json")["models"]
    by = {"sft-lora": "loss", "dpo": "loss", "kto": "loss", "rlhf": "score", "grpo": None}
    choices = {name: compared[name]["training"]["selection"] for name in by}
    assert {name: choice["by"] for name, choice in choices.items()} == by
    for choice in choices.values():
        assert 0 < choice["kept"] <= choice["steps"]
    assert choices["grpo"]["validation"] == []
    assert compared["lora-merged"]["training"]["selection"] is None


def test_the_lineage_names_the_models_that_a_model_was_built_on(project: Project) -> None:
    lineage = project.read("models/rlhf/lineage.json")
    assert set(lineage["parents"]) == {"sft-lora", "reward"}
    for name, parent in lineage["parents"].items():
        assert parent["weights_digest"] == manifest.read(project.folder / "models" / name).weights_digest
    base = manifest.read(project.folder / "models" / "base").weights_digest
    assert lineage["base"]["weights_digest"] == lineage["on"]["weights_digest"] == base


def test_the_lineage_names_code_rows_and_params(project: Project) -> None:
    lineage = project.read("models/sft-lora/lineage.json")
    commit = project.run("git", "rev-parse", "HEAD").stdout.strip()
    assert lineage["code"] == {"commit": commit, "clean": True}
    assert lineage["fingerprint"] == manifest.file_digest(project.folder / "build/code/train_sft")
    assert lineage["document"] == project.params
    train = lineage["inputs"]["data/ready/demo/train.jsonl"]
    assert train["sha256"] == manifest.file_digest(project.folder / "data/ready/demo/train.jsonl")
    assert train["dvc"].startswith("md5:")
    assert lineage["environment"]["lock_sha256"] == manifest.file_digest(ROOT / "requirements.lock")
    entry = lineage["params"]["sft"]["sft-lora"]
    lora = Lora(rank=2, alpha=4).model_dump()
    assert (entry["lora"], entry["weights"], entry["seed"]) == (lora, "lora", 20)


def test_stages_read_only_what_they_declare(project: Project) -> None:
    """Files of the project, that is; lineage also reads dvc.lock and the lock file, for the record."""
    opened: dict[str, set[str]] = {}
    for line in project.audit.read_text().splitlines():
        stage, path = line.split("\t")
        if (project.folder / path).is_file():
            opened.setdefault(stage, set()).add(path)
    for stage, entry in yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"].items():
        parts = [part["path"] for kind in ("deps", "outs") for part in entry.get(kind, [])]
        record = ["params.yaml", "dvc.lock", "requirements.lock", "pyproject.toml"]
        registry = ["mlflow.db", "mlartifacts", ".tunesmith/histories.json"]
        code = stage.split("@")[0]
        files = (project.folder / "build/code" / code).read_text() if code != "fingerprint" else ""
        modules = re.findall(r"^[0-9a-f]{64}  (\S+)$", files, re.MULTILINE)
        allowed = tuple(f"{path}/" for path in [*parts, *record, *registry, *modules])
        rest = {path for path in opened[stage] if not f"{path}/".startswith(allowed)}
        assert {path for path in rest if not path.endswith("/__init__.py")} == set(), stage


def test_running_again_does_nothing(project: Project) -> None:
    assert project.repro() == set()


@pytest.mark.usefixtures("params_restored")
def test_a_param_of_the_registry_reruns_only_its_reader(project: Project) -> None:
    project.put("registry.model", "another")
    assert project.stale() == {"register"}


@pytest.mark.usefixtures("params_restored")
def test_another_kind_of_weights_is_one_line_and_retrains_one_model(project: Project) -> None:
    project.put("dpo.dpo.weights", "full")
    assert project.stale() == {"reference@dpo", "train_dpo@dpo"}  # what follows depends on what they write


@pytest.mark.usefixtures("params_restored")
def test_another_rank_retrains_that_model_and_stating_a_default_retrains_none(project: Project) -> None:
    project.put("sft.sft-qlora.lora", {"rank": 3, "alpha": 4})
    assert project.stale() == {"train_sft@sft-qlora"}
    project.put("sft.sft-qlora.lora", {"rank": 2, "alpha": 4, "dropout": 0.0})
    assert project.stale() == set()


@pytest.mark.usefixtures("params_restored")
def test_another_beta_does_not_compute_the_reference_again(project: Project) -> None:
    project.put("dpo.dpo.beta", 0.2)
    assert project.stale() == {"train_dpo@dpo"}


def test_one_method_trains_with_what_it_needs_alone(project: Project) -> None:
    needed = running(project.run("dvc", "repro", "--dry", "--force", "train_rlhf"))
    assert {"train_sft@sft-lora", "train_reward@reward", "train_rlhf@rlhf"} <= needed
    assert not needed & {"train_sft@sft-full", "train_dpo@dpo", "train_grpo@grpo", "evaluate"}


@pytest.mark.usefixtures("params_restored")
def test_a_misspelt_param_is_an_error_that_loses_nothing(project: Project) -> None:
    before = manifest.verify(project.folder / "models" / "sft-lora")
    project.put("sft.sft-lora.lora.rnak", 2)
    failed = project.run("dvc", "repro", check=False)
    assert failed.returncode != 0
    assert "sft.sft-lora.lora.rnak: unknown param; did you mean 'rank'?" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert running(failed) == {"resolve_params"}
    assert manifest.verify(project.folder / "models" / "sft-lora") == before


@pytest.mark.usefixtures("params_restored")
def test_a_users_folder_of_csv_goes_through_by_editing_params_alone(project: Project) -> None:
    folder = project.folder / "data" / "raw" / "mine"
    folder.mkdir()
    (folder / "a.csv").write_text("task,solution\nhalf of 2,1\n")
    (folder / "b.csv").write_text("task,solution\n" + "".join(f"double {i},{2 * i}\n" for i in range(40)) + "broken\n")
    columns = {"prompt": "task", "completion": "solution"}
    project.put("data.mine", {"path": "data/raw/mine", "files": "*.csv", "columns": columns, "max_bad_share": 0.1})
    done = project.run("dvc", "repro", "prepare_data@mine")
    assert "1 set aside in data/quarantine/mine.jsonl" in done.stdout
    quarantined = project.read("data/quarantine/mine.jsonl")
    assert (quarantined["file"], quarantined["line"]) == ("data/raw/mine/b.csv", 42)
    assert project.read("reports/data/mine.json")["good"] == 41
    (folder / "c.csv").write_text("task,solution\nhalf of 4,2\n")
    assert "data/raw/mine" in project.run("dvc", "status", "prepare_data@mine").stdout


def test_the_champion_is_promoted_and_remembered(project: Project) -> None:
    reason = ["--reason", "a tiny model proves nothing"]
    project.run("tunesmith", "promote", "sft-lora", *reason)
    history = project.run("tunesmith", "history").stdout
    assert "champion: none -> version 1 (sft-lora)" in history
    assert reason[1] in history


def test_the_results_name_the_next_step(project: Project) -> None:
    shown = project.run("tunesmith", "results").stdout
    assert "registered: calculator version 1 (sft-lora)" in shown
    assert "tunesmith ui" in shown


def test_methods_can_be_left_out_and_an_unreachable_server_stops_only_registration(project: Project) -> None:
    """Last, because it runs part of the pipeline again. The reward model goes, and RLHF that needs it; GRPO changes."""
    project.put("rlhf", None)
    project.put("reward", None)
    project.put("package", None)
    project.put("grpo.grpo.learning_rate", 0.04)
    away = project.run("dvc", "repro", check=False, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    stages = {"resolve_params", "baseline", "train_grpo@grpo", "evaluate", "compare", "register"}  # data/ready grew
    assert running(away) == stages
    assert "1 models evaluated" in away.stdout
    assert "6 kept" in away.stdout
    assert away.returncode != 0
    assert "http://127.0.0.1:9" in away.stderr
    assert "reports are safe on disk" in away.stderr
    assert "Traceback" not in away.stderr
    assert set(project.read("reports/comparison.json")["models"]) == {"base", *TRAINED} - {"rlhf"}
    assert project.read("reports/comparison.json")["reward_models"] == {}
    assert not (project.folder / "reports/evaluation/rlhf").exists()
    assert project.repro() == {"register"}
    assert project.read("reports/registered/sft-lora/registration.json")["version"] == "1"
    assert project.read("reports/registered/grpo/registration.json")["version"] == str(len(TRAINED) + 2)
    assert not (project.folder / "reports/registered/rlhf").exists()
