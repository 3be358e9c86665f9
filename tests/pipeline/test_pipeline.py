"""The pipeline's contract: what dvc.yaml declares is what the stages do; and the whole of it, run on a tiny model."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import code_dependencies
import pytest
import yaml
from pipeline_project import RATES, ROOT, TRAINED, Project, running

from tunesmith.core import manifest

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGES = sorted((ROOT / "stages").glob("*.py"))


def declared(stage: str, kind: str) -> list[str]:
    entry = PIPELINE[stage]
    values = entry.get("do", entry).get(kind, [])
    return [name for value in values for name in (value if isinstance(value, dict) else [value])]


def test_there_is_one_file_a_stage() -> None:
    assert {path.stem for path in STAGES} == set(PIPELINE)


@pytest.mark.parametrize("stage", STAGES, ids=lambda path: path.stem)
def test_declared_code_is_exactly_what_is_imported(stage: Path) -> None:
    code = {name for name in declared(stage.stem, "deps") if name.startswith(("stages/", "tunesmith/"))}
    assert code == code_dependencies.of(stage)


def test_the_package_file_holds_no_code_that_stages_would_depend_on() -> None:
    (docstring,) = ast.parse((ROOT / "tunesmith" / "__init__.py").read_text()).body
    assert isinstance(docstring, ast.Expr)


@pytest.mark.parametrize("stage", STAGES, ids=lambda path: path.stem)
def test_declared_params_are_exactly_what_is_loaded(stage: Path) -> None:
    """Every section a stage loads, with what varies by item (``{name}``, ``${item}``) written as ``*``."""
    loaded = set()
    for node in ast.walk(ast.parse(stage.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load":
            loaded.add(re.sub(r"\{.*?\}", "*", ast.unparse(node.args[1]).removeprefix("f").strip("'\"")))
    items = PIPELINE[stage.stem].get("foreach", {})
    params = set()
    for name in declared(stage.stem, "params"):
        varying = {item["also"] for item in items.values()} if name == "${item.also}" else set()
        params |= varying or {re.sub(r"\$\{.*?\}", "*", name)}
    assert params == loaded | ({"runtime.image"} if on_the_engine(stage.stem) else set())


def on_the_engine(stage: str) -> bool:
    entry = PIPELINE[stage]
    return str(entry.get("do", entry)["cmd"]).startswith("exec python -m tunesmith.runtime ")


def test_trainings_and_evaluations_run_where_params_say() -> None:
    expected = {stage for stage in PIPELINE if stage.startswith("train_")} | {
        "fetch_base",
        "reference",
        "merge",
        "evaluate",
    }
    assert {stage for stage in PIPELINE if on_the_engine(stage)} == expected


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
    made = Project(folder, tiny_folder)
    made.run("dvc", "repro")
    return made


@pytest.fixture
def params_restored(project: Project) -> Iterator[None]:
    before = (project.folder / "params.yaml").read_text()
    yield
    (project.folder / "params.yaml").write_text(before)


def test_the_pipeline_ends_in_a_registered_model(project: Project) -> None:
    comparison = project.read("reports/comparison.json")
    assert set(comparison["models"]) == {"base", *TRAINED}
    assert comparison["prompts"] == 12
    registration = project.read("reports/sft-lora/registration.json")
    assert (registration["registered_model"], registration["version"]) == ("smollm2-arithmetic", "1")
    manifest.verify(project.folder / "models" / "sft-lora")


def test_every_model_answered_the_same_prompts(project: Project) -> None:
    base, *tuned = (project.read(f"reports/{name}/metrics.json") for name in ("base", *TRAINED))
    for key in ("template_digest", "base_weights_digest", "key"):
        assert {metrics[key] for metrics in tuned} == {base[key]}
    assert list(base["suites"]) == ["arithmetic", "preferences"]
    for suite, asked in base["suites"].items():
        assert {metrics["suites"][suite]["prompts_digest"] for metrics in tuned} == {asked["prompts_digest"]}


def test_a_model_names_what_it_was_built_on(project: Project) -> None:
    lineage = project.read("models/rlhf/lineage.json")
    assert set(lineage["parents"]) == {"sft-lora", "reward"}
    for name, parent in lineage["parents"].items():
        assert parent["weights_digest"] == manifest.read(project.folder / "models" / name).weights_digest
    base = manifest.read(project.folder / "models" / "base").weights_digest
    assert lineage["base"]["weights_digest"] == lineage["on"]["weights_digest"] == base


def test_the_lineage_says_what_the_model_was_made_of(project: Project) -> None:
    lineage = project.read("models/sft-lora/lineage.json")
    commit = project.run("git", "rev-parse", "HEAD").stdout.strip()
    assert lineage["code"] == {"commit": commit, "clean": True}
    assert lineage["base"]["weights_digest"] == manifest.read(project.folder / "models" / "base").weights_digest
    train = lineage["inputs"]["data/ready/demo/train.jsonl"]
    assert train["sha256"] == manifest.file_digest(project.folder / "data/ready/demo/train.jsonl")
    assert train["dvc"].startswith("md5:")
    assert lineage["environment"]["lock_sha256"] == manifest.file_digest(ROOT / "requirements.lock")
    assert lineage["params"]["lora"]["rank"] == 2


def test_stages_read_only_what_they_declare(project: Project) -> None:
    """Files of the project, that is; lineage also reads dvc.lock and the lock file, for the record."""
    opened: dict[str, set[str]] = {}
    for line in project.audit.read_text().splitlines():
        stage, path = line.split("\t")
        if (project.folder / path).is_file():
            opened.setdefault(stage, set()).add(path)
    for stage, entry in yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"].items():
        declared = [part["path"] for kind in ("deps", "outs") for part in entry.get(kind, [])]
        record = ["params.yaml", "dvc.lock", "requirements.lock", "tunesmith/__init__.py"]
        registry = ["mlflow.db", "mlartifacts"]
        allowed = tuple(f"{path}/" for path in [*declared, *record, *registry])
        assert {path for path in opened[stage] if not f"{path}/".startswith(allowed)} == set(), stage


def test_running_again_does_nothing(project: Project) -> None:
    assert project.stale() == set()


@pytest.mark.usefixtures("params_restored")
def test_an_unrelated_param_reruns_only_its_reader(project: Project) -> None:
    project.edit(registry=lambda registry: registry | {"model": "another"})
    assert project.stale() == {f"register@{name}" for name in TRAINED}


@pytest.mark.usefixtures("params_restored")
def test_another_kind_of_weights_is_one_line_and_retrains_one_model(project: Project) -> None:
    project.edit(dpo=lambda dpo: dpo | {"weights": "full"})
    assert project.stale() == {"reference", "train_dpo"}  # what follows depends on what they write


@pytest.mark.usefixtures("params_restored")
def test_another_rank_leaves_what_has_no_adapter_alone(project: Project) -> None:
    project.edit(lora=lambda lora: lora | {"rank": 3})
    stale = project.stale()
    assert {"train_sft@lora", "train_sft@qlora", "train_dpo", "train_reward"} <= stale
    assert not stale & {"train_sft@full", "fetch_base", "prepare_data@demo"}


@pytest.mark.usefixtures("params_restored")
def test_another_beta_does_not_compute_the_reference_again(project: Project) -> None:
    project.edit(dpo=lambda dpo: dpo | {"beta": 0.2})
    assert project.stale() & {"reference", "train_dpo", "train_rlhf"} == {"train_dpo"}


def test_one_method_trains_with_what_it_needs_alone(project: Project) -> None:
    needed = set(re.findall(r"'(.*?)'", project.run("dvc", "repro", "--dry", "--force", "train_rlhf").stdout))
    assert {"train_sft@lora", "train_reward", "train_rlhf"} <= needed
    assert not needed & {"train_sft@full", "train_dpo", "train_grpo", "evaluate"}


@pytest.mark.usefixtures("params_restored")
def test_a_misspelt_param_is_an_error_that_loses_nothing(project: Project) -> None:
    before = manifest.verify(project.folder / "models" / "sft-lora")
    project.edit(lora=lambda lora: {"rnak": lora["rank"], **lora})
    done = project.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "lora.rnak: unknown param; did you mean 'rank'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert manifest.verify(project.folder / "models" / "sft-lora") == before


@pytest.mark.usefixtures("params_restored")
def test_a_users_csv_goes_through_by_editing_params_alone(project: Project) -> None:
    path = project.folder / "data" / "raw" / "mine.csv"
    path.write_text("task,solution\n" + "".join(f"double {i},{2 * i}\n" for i in range(40)) + "broken\n")
    columns = {"prompt": "task", "completion": "solution"}
    mine = {"path": "data/raw/mine.csv", "columns": columns, "max_bad_share": 0.1}
    project.edit(data=lambda data: data | {"mine": data["demo"] | mine})
    done = project.run("dvc", "repro", "prepare_data@mine")
    assert "1 set aside in data/quarantine/mine.jsonl" in done.stdout
    quarantined = project.read("data/quarantine/mine.jsonl")
    assert (quarantined["file"], quarantined["line"]) == ("data/raw/mine.csv", 42)
    assert project.read("reports/data/mine.json")["good"] == 40


def test_the_champion_is_promoted_and_remembered(project: Project) -> None:
    reason = ["--reason", "a tiny model proves nothing"]
    project.run("tunesmith", "promote", "sft-lora", *reason)
    history = project.run("tunesmith", "history").stdout
    assert "champion: none -> version 1 (sft-lora)" in history
    assert reason[1] in history


def test_the_results_name_what_comes_next(project: Project) -> None:
    shown = project.run("tunesmith", "results").stdout
    assert "registered: smollm2-arithmetic version 1 (sft-lora)" in shown
    assert "make ui" in shown


def test_another_rate_retrains_and_a_server_that_is_away_gets_the_run_later(project: Project) -> None:
    """Last, because it runs part of the pipeline again."""
    project.edit(grpo=lambda grpo: grpo | {"learning_rate": RATES | {"lora": 0.04}})
    away = project.run("dvc", "repro", check=False, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert running(away) == {"train_grpo", "evaluate", "compare", "register@sft-lora"}
    assert "1 models evaluated" in away.stdout
    assert "6 kept" in away.stdout
    assert away.returncode != 0
    assert "the request to the tracking server at http://127.0.0.1:9 failed" in away.stderr
    assert "Traceback" not in away.stderr
    later = project.run("dvc", "repro")
    assert running(later) == {f"register@{name}" for name in TRAINED}
    assert project.read("reports/sft-lora/registration.json")["version"] == "1"
    assert project.read("reports/grpo/registration.json")["version"] == str(len(TRAINED) + 1)
