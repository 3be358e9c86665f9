"""`tunesmith init` in a git repository of the user's own; the last test runs its pipeline, from a wheel."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import image_files as files
import pytest
import tiny_vision
import warm_python
import yaml
from click.testing import CliRunner
from hatchling.builders.wheel import WheelBuilder

from tunesmith.cli.main import main
from tunesmith.core import params
from tunesmith.project import default_suites, document, pipeline_files

ROOT = Path(__file__).parents[2]
SUMS = [{"question": f"what is {i} and one", "answer": f"#### {i + 1}"} for i in range(60)]
PAIRS = [{"prompt": f"taste {i}?", "chosen": "yes", "rejected": f"what a bother {i}"} for i in range(60)]
PROMPTS = [{"prompt": f"digit {i}?", "reference": str(i), "verifier": "number"} for i in range(60)]
CHATS = [
    {"messages": [{"role": "user", "content": f"hello {i}"}, {"role": "assistant", "content": f"good day {i}"}]}
    for i in range(60)
]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty git repository, the current folder."""
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "-q")
    return folder


@pytest.fixture(scope="module")
def vision_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vision.write("idefics3", tmp_path_factory.mktemp("vision"))


def git(*arguments: str) -> str:
    name = ["-c", "user.name=t", "-c", "user.email=t@t"]
    return subprocess.run(["git", *name, *arguments], check=True, capture_output=True, text=True).stdout


def rows(name: str, content: list[dict[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in content))
    return name


def init(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(main, ["init", *arguments])
    assert result.exit_code == status, result.output
    return result.output + (str(result.exception) if status else "")


@pytest.mark.parametrize(
    ("content", "section", "entry", "suites"),
    [
        (SUMS, "sft", {"dataset": "rows"}, [{"verifier": "number"}]),
        (CHATS, "sft", {"dataset": "rows"}, [{"verifier": "exact"}, {"kind": "perplexity"}]),
        (PROMPTS, "grpo", {"dataset": "rows", "start": "base", "rewards": {"number": 1.0}}, [{"verifier": "number"}]),
    ],
)
def test_rows_become_a_project_that_can_run(
    repository: Path, content: list[dict[str, Any]], section: str, entry: dict[str, Any], suites: list[Any]
) -> None:
    output = init("--data", rows("rows.jsonl", content), "--weights", "lora", "--no-suites")
    written = yaml.safe_load(params.PATH.read_text())
    assert written[section] == {f"{section}-lora": entry}
    assert list(written["evaluate"]["suites"].values()) == [{**suite, "dataset": "rows"} for suite in suites]
    assert written["registry"] == {"experiment": "mine", "model": "mine"}
    assert len(params.PATH.read_text().splitlines()) <= 20
    assert not list(Path("data/held_out").glob("*.jsonl"))
    assert not list(Path("stages").glob("*demo*"))
    assert f"tunesmith promote {section}-lora" in output
    assert (repository / ".dvc" / "config").exists()
    assert "params.yaml: in order" in CliRunner().invoke(main, ["check"]).output


def test_a_project_has_the_default_suites_with_their_rows_and_rules(repository: Path) -> None:
    init("--data", rows("rows.jsonl", SUMS), "--weights", "lora")
    written, own = yaml.safe_load(params.PATH.read_text()), yaml.safe_load((ROOT / "params.yaml").read_text())
    assert list(written["evaluate"]["suites"]) == ["rows", *default_suites.NAMES]
    for name in default_suites.NAMES:
        path = Path(written["data"][name]["path"])
        assert path.read_bytes() == (ROOT / path).read_bytes()
        assert written["data"][name] == own["data"][name]
        longer = {"max_new_tokens": 128} if name != "general" else {}  # than the demo's model needs
        assert written["evaluate"]["suites"][name] == own["evaluate"]["suites"][name] | longer
    first, *rules = written["gate"]["rules"]
    assert first == {"must": "improve", "suite": "rows", "metric": "score", "by": 0.0}
    assert rules == [rule for rule in own["gate"]["rules"] if rule.get("suite") in default_suites.NAMES]
    assert len(params.PATH.read_text().splitlines()) <= 40
    assert "no public benchmark" in CliRunner().invoke(main, ["check"]).output
    assert "data/held_out/refusal.jsonl" in git("status", "--porcelain", "-uall")  # git has them, DVC need not


def test_rows_with_the_name_of_a_default_suite_need_another(repository: Path) -> None:
    path = rows("general.jsonl", SUMS)
    assert "general is the name of a default suite" in init("--data", path, status=1)
    init("--data", path, "--weights", "lora", "--no-suites")
    assert list(document.load().evaluate.suites) == ["general"]


def test_of_answers_without_a_verifier_the_likelihood_must_improve(repository: Path) -> None:
    init("--data", rows("rows.jsonl", CHATS), "--weights", "lora")
    project = document.load()
    assert next(iter(project.evaluate.suites)) == "rows"
    assert project.gate.rules[0].suite == "rows-likelihood"  # type: ignore[union-attr]


def test_rows_in_the_place_of_a_default_suites_are_not_overwritten(repository: Path) -> None:
    path = Path("data/held_out/general.jsonl")
    path.parent.mkdir(parents=True)
    path.write_text('{"prompt": "my own?", "answer": "yes"}\n')
    before = git("status", "--porcelain", "-uall")
    data = rows("../rows.jsonl", SUMS)
    output = init("--data", data, "--weights", "lora", status=1)
    assert "general.jsonl: there already" in output
    assert "--no-suites" in output
    assert git("status", "--porcelain", "-uall") == before
    init("--data", data, "--weights", "lora", "--no-suites")
    assert "my own?" in path.read_text()


def test_whoever_is_asked_can_leave_the_default_suites_out(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: True)
    answers = f"{rows('rows.jsonl', SUMS)}\n\nn\n"
    result = CliRunner().invoke(main, ["init", "--weights", "lora"], input=answers)
    assert result.exit_code == 0, result.output
    assert list(document.load().evaluate.suites) == ["rows"]


def test_the_base_and_the_weights_are_chosen(repository: Path, tiny_folder: Path) -> None:
    output = init("--data", rows("rows.jsonl", SUMS), "--base", str(tiny_folder))
    source = document.load().base_model.root
    assert source.kind == "folder"
    assert source.path == tiny_folder
    assert "LoRA is the lightest that does the job for SFT" in output
    assert list(document.load().sft) == ["sft-lora"]


@pytest.mark.parametrize("relative", [True, False])
def test_rows_from_elsewhere_are_copied_where_dvc_can_version_them(
    repository: Path, tmp_path: Path, relative: bool
) -> None:
    path = rows("../rows.jsonl", SUMS)
    output = init("--data", path if relative else str(tmp_path / "rows.jsonl"), "--weights", "lora")
    assert document.load().data["rows"].path == Path("data/raw/rows.jsonl")
    assert Path("data/raw/rows.jsonl").read_bytes() == (tmp_path / "rows.jsonl").read_bytes()
    assert "dvc add data/raw/rows.jsonl" in output


@pytest.mark.parametrize("folder", ["data", "../elsewhere", ".", "data/raw/cars"])
def test_rows_with_images_begin_a_project_wherever_they_lie(repository: Path, vision_folder: Path, folder: str) -> None:
    for i in range(20):
        files.put(Path(folder, "images", f"{i}.png"), files.png(i))
    content = [
        {"question": f"<image>what is {i}?", "answer": f"#### {i}", "images": [f"images/{i}.png"]} for i in range(20)
    ]
    path = rows(f"{folder}/cars.jsonl", content)
    arguments = ("--data", path, "--weights", "lora", "--no-suites")
    refused = init(*arguments, status=1)
    assert "its rows have images: the default base reads texts alone\n  fix: name a base that reads images" in refused
    output = init(*arguments, "--base", str(vision_folder))
    assert "note: images: 20 in 20 rows, 24 × 16 pixels" in output
    assert document.load().data["cars"].path == Path("data/raw/cars")
    assert len(list(Path("data/raw/cars/images").iterdir())) == 20
    assert "params.yaml: in order" in CliRunner().invoke(main, ["check"]).output


def test_nothing_of_the_users_own_is_overwritten(repository: Path) -> None:
    Path(".gitignore").write_text("mine\nbuild/")
    Path("data").mkdir()
    Path("data/README.md").write_text("my notes\n")
    Path("params.yaml").write_text("data: {}\n")
    init("--data", rows("rows.jsonl", SUMS))
    assert Path(".gitignore").read_text().startswith("mine\nbuild/\nmlflow.db*\n")
    assert Path(".gitignore").read_text().count("build/") == 1
    assert Path("data/README.md").read_text() == "my notes\n"
    assert Path("params.yaml").read_text() == "data: {}\n"


@pytest.mark.parametrize("path", ["dvc.yaml", "stages/evaluate.py"])
def test_another_pipeline_is_left_alone_and_a_folder_of_its_own_proposed(repository: Path, path: str) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text("stages: {}\n")
    before = git("status", "--porcelain", "-uall")
    assert "tunesmith init FOLDER" in init("--data", rows("../rows.jsonl", SUMS), status=1)
    assert git("status", "--porcelain", "-uall") == before
    init("fine-tuning", "--data", "../rows.jsonl", "--weights", "lora")
    assert (repository / "fine-tuning" / "dvc.yaml").exists()


def test_what_is_missing_is_named(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: False)
    assert "tunesmith init --data FILE" in init(status=1)
    assert "not ready" in init("--data", rows("rows.jsonl", [{"a": "b"}] * 9), status=1)
    assert "an entry of dpo" in init("--data", rows("rows.jsonl", PAIRS), status=1)
    marks = [{"prompt": f"q{i}", "completion": f"a{i}", "label": i % 2} for i in range(9)]
    assert "an entry of kto" in init("--data", rows("rows.jsonl", marks), status=1)
    assert sorted(path.name for path in repository.iterdir()) == [".git", "rows.jsonl"]
    monkeypatch.chdir(tmp_path)
    assert "run `git init` first" in init(status=1)


def test_an_upgrade_shows_its_changes_then_makes_them(repository: Path) -> None:
    init("--data", rows("rows.jsonl", SUMS), "--weights", "lora")
    assert "the pipeline is this version's" in init()
    Path("dvc.yaml").write_text(Path("dvc.yaml").read_text().replace("persist: true", "persist: false"))
    Path("stages/compare.py").unlink()
    Path(".gitignore").write_text("mine\n")
    shown = init()
    assert "-      - models/base: {persist: false}" in shown
    assert "+++ stages/compare.py (this version)" in shown
    assert "+mlflow.db*" in shown
    assert "would lose them" in init("--update", status=1)
    git("add", "-A")
    git("commit", "-q", "-m", "mine")
    init("--update")
    assert "the pipeline is this version's" in init()
    assert Path(".gitignore").read_text().startswith("mine\n")


def test_dvc_pushes_raw_files_also_after_an_upgrade(repository: Path) -> None:
    init("--data", rows("../rows.jsonl", SUMS), "--weights", "lora", "--no-suites")
    ignored = Path(".gitignore").read_text()
    Path(".gitignore").write_text(ignored.replace("data/raw/?*", "data/raw/*"))  # as earlier versions wrote it
    git("add", "-A")
    git("commit", "-q", "-m", "mine")
    init("--update")
    assert Path(".gitignore").read_text() == ignored
    files.put(Path("data/raw/photos/0.jpg"), files.jpeg(0))
    dvc("add", "--quiet", "data/raw/rows.jsonl", "data/raw/photos")
    git("add", "data")
    assert git("ls-files", "data/raw").splitlines() == ["data/raw/photos.dvc", "data/raw/rows.jsonl.dvc"]
    dvc("remote", "add", "--quiet", "--default", "store", "../store")
    assert "3 files pushed" in dvc("push")


def dvc(*arguments: str) -> str:
    return subprocess.run(["dvc", *arguments], check=True, capture_output=True, text=True).stdout


def test_the_lines_for_ignore_files_are_those_of_this_repository() -> None:
    for path, lines in pipeline_files.LINES.items():
        assert set(lines) <= set((ROOT / path).read_text().splitlines())


@pytest.mark.real  # half a minute
def test_a_project_outside_runs_its_pipeline_from_a_wheel(
    repository: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path / "dist"), versions=["standard"])
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site), wheel]
    subprocess.run(pip, check=True)
    programs = f"{warm_python.folder()}:{Path(sys.executable).parent}"
    environment = os.environ | {"PYTHONPATH": str(site), "PATH": f"{programs}:{os.environ['PATH']}"}
    environment |= {"XDG_CONFIG_HOME": str(tmp_path / "config"), "MLFLOW_TRACKING_URI": ""}

    def run(*command: str) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    tunesmith = [sys.executable, "-c", "import tunesmith; print(tunesmith.__path__[0]); "]
    tunesmith[-1] += "from tunesmith.cli.main import main; main()"
    digits = [{"question": f"digit {i}?", "answer": str(1 + i % 2)} for i in range(60)]
    output = run(*tunesmith, "init", "--data", rows("rows.jsonl", digits), "--base", str(tiny_folder))
    assert output.startswith(str(site))
    context = Path(run(*tunesmith, "image", "--context").splitlines()[-1])
    assert context.is_relative_to(site)
    locks = {"requirements.lock", "requirements-cuda.lock", "requirements-vllm.lock", "requirements-vllm-cpu.lock"}
    files = {"Dockerfile", "pyproject.toml", "deploy", *locks}
    assert {path.name for path in context.iterdir()} == files
    assert "vLLM" in run(*tunesmith, "engine")  # which reads the locks
    entry = "lora: {rank: 2, alpha: 4}, learning_rate: 0.05, epochs: 6, max_length: 160, probes: 2"
    settings = params.PATH.read_text().replace("{dataset: rows}", f"{{dataset: rows, {entry}}}")
    settings = settings.replace("max_new_tokens: 128", "max_new_tokens: 24")
    params.PATH.write_text(settings.replace("verifier: number, ", "verifier: number, max_new_tokens: 4, "))
    git("add", "-A")
    git("commit", "-q", "-m", "mine")
    run("dvc", "repro")
    assert "sft-lora" in run(*tunesmith, "results")
    lineage = json.loads(Path("models/sft-lora/lineage.json").read_text())
    package = lineage["code"].pop("package")
    assert package["version"] == metadata.version("tunesmith")
    assert lineage["code"] == {"commit": git("rev-parse", "HEAD").strip(), "clean": True}
    again = [line for line in run("dvc", "repro").splitlines() if line.startswith("Running")]
    assert again == ["Running stage 'fingerprint':"]
