"""A stage's fingerprint changes with code and libraries that can change its output, and with nothing else."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.core import fingerprint
from tunesmith.core.errors import StaleCodeError

ROOT = Path(__file__).parents[2]
TRAININGS = {"train_sft", "train_dpo", "train_kto", "train_reward", "train_rlhf", "train_grpo"}
OTHERS = [ROOT / "requirements.lock", ROOT / "pyproject.toml", *(ROOT / "tunesmith").rglob("*.j2")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code for all tests, since reading all of it takes a second. Files keep their times."""
    folder = tmp_path_factory.mktemp("code")
    for name in ("stages", "tunesmith"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder)
    return folder


@pytest.fixture
def copy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the code in the current folder, whose fingerprints are taken. What a test edits is put back."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(fingerprint, "PACKAGE", folder / "tunesmith")
    fingerprint._data_files.cache_clear()
    yield folder
    fingerprint._data_files.cache_clear()
    shutil.rmtree(folder / "build", ignore_errors=True)
    for name in (*modules(folder), *(path.relative_to(ROOT) for path in OTHERS)):
        if not (folder / name).exists() or (folder / name).stat().st_mtime_ns != (ROOT / name).stat().st_mtime_ns:
            shutil.copy2(ROOT / name, folder / name)


def fingerprints() -> dict[str, str]:
    return {stage: fingerprint.of_stage(stage) for stage in fingerprint.stages()}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {stage for stage in before if before[stage] != after[stage]}


def modules(folder: Path) -> list[Path]:
    return sorted(
        path.relative_to(folder) for name in ("stages", "tunesmith") for path in (folder / name).rglob("*.py")
    )


def test_every_stage_but_the_one_that_writes_them_has_a_fingerprint(copy: Path) -> None:
    assert set(fingerprints()) == {path.stem for path in (copy / "stages").glob("*.py")} - {"fingerprint"}


def test_comments_docstrings_and_layout_change_no_fingerprint(copy: Path) -> None:
    before = fingerprints()
    for module in modules(copy):
        path = copy / module
        text = re.sub(r'\A"""', '"""Another first line. ', path.read_text())
        path.write_text(f"# a comment\n\n\n{text}\n\n# and another\n")
    assert changed(before, fingerprints()) == set()


def test_a_statement_changes_the_digest_of_every_module_that_a_training_runs(copy: Path) -> None:
    """And so, since its fingerprint lists it, exactly the stages that import the module."""
    closure = fingerprint.closure(path for path in (copy / "stages").glob("train_*.py"))
    assert len(closure) > 60
    for path in closure:
        text, before = path.read_text(), fingerprint.digest(path)
        path.write_text(f"{text}\nADDED = 1\n")
        assert fingerprint.digest(path) != before, path
        path.write_text(text)


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("tunesmith/training/objectives/grpo.py", {"train_grpo"}),
        ("tunesmith/training/entries/dpo.py", {"reference", "train_dpo", "resolve_params"}),
        ("tunesmith/training/objectives/sft.py", {"train_sft"}),
        ("tunesmith/training/objectives/kto.py", {"train_kto"}),
        ("tunesmith/planning/memory.py", {"compare", *TRAININGS}),  # which ask it for their batch
        ("tunesmith/planning/cards.py", set()),
        ("tunesmith/data/dataset.py", {"prepare_data", "resolve_params"}),
        ("tunesmith/reports/comparison_page.py", {"compare"}),
        ("tunesmith/evaluation/gate.py", {"compare"}),
        ("tunesmith/runtime/docker.py", set()),
        ("tunesmith/cli/main.py", set()),
        ("tunesmith/serving/gateway/proxy.py", set()),
    ],
)
def test_the_layers_keep_what_a_stage_does_not_run_out_of_its_fingerprint(
    copy: Path, module: str, stages: set[str]
) -> None:
    before = fingerprints()
    (copy / module).write_text(f"{(copy / module).read_text()}\nADDED = 1\n")
    assert changed(before, fingerprints()) == stages


def test_no_training_depends_on_evaluation_reports_registry_runtime_commands_or_what_the_plan_prints() -> None:
    for stage in fingerprint.stages():
        text = fingerprint.of_stage(stage)
        if stage.startswith("train_"):
            assert not re.search(r"tunesmith/(evaluation|reports|registry|serving|runtime|cli|project)/", text)
            assert not re.search(r"tunesmith/planning/(cards|methods|rates|speed)\.py", text)
        if stage == "evaluate":
            assert "tunesmith/training/" not in text


def test_a_template_changes_the_stages_that_render_it(copy: Path) -> None:
    before = fingerprints()
    style = copy / "tunesmith/reports/templates/head.html.j2"  # which other templates include
    style.write_text(f"{style.read_text()}\n")
    assert changed(before, fingerprints()) == {"compare", "prepare_data"}


def test_every_data_file_of_the_package_is_named_so_that_it_counts_and_travels() -> None:
    named = fingerprint.closure(fingerprint.PACKAGE.rglob("*.py"))
    beside = [path for path in fingerprint.PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    files = {path for path in beside if path.name != "py.typed" and not path.name.startswith("LICENSE")}
    assert "vega.min.js" in {path.name for path in files}
    assert files <= named


def test_a_module_that_is_started_as_a_process_counts(copy: Path) -> None:
    before = fingerprints()
    worker = copy / "tunesmith/verifiers/worker/child.py"
    worker.write_text(f"{worker.read_text()}\nADDED = 1\n")
    assert {"evaluate", "prepare_data", "train_grpo", "train_rlhf"} <= changed(before, fingerprints())


@pytest.mark.parametrize(
    ("library", "some", "others"),
    [
        (
            "trl",
            {"train_sft", "train_dpo", "train_reward", "train_rlhf", "train_grpo"},
            {"evaluate", "compare", "register"},
        ),
        ("mlflow", {"register"}, {"train_sft", "evaluate", "compare"}),
        ("lm-eval", {"evaluate"}, {"train_sft", "prepare_data"}),
        ("accelerate", {"train_sft", "evaluate", "merge"}, {"generate_demo"}),
        ("alembic", set(), {"register"}),
    ],
)
def test_a_library_pinned_anew_changes_what_imports_it(
    copy: Path, library: str, some: set[str], others: set[str]
) -> None:
    before = fingerprints()
    lock = copy / "requirements.lock"
    text, count = re.subn(rf"(?m)^{library}==\S+", f"{library}==99.0", lock.read_text())
    assert count == 1
    lock.write_text(text)
    stages = changed(before, fingerprints())
    assert some <= stages
    assert not stages & others


def test_another_torch_changes_all_that_computes(copy: Path) -> None:
    before = fingerprints()
    project = copy / "pyproject.toml"
    project.write_text(re.sub(r'"torch==[^"]+"', '"torch==99.0"', project.read_text()))
    assert {"train_sft", "evaluate", "merge", "reference"} <= changed(before, fingerprints())


def test_a_stage_without_a_fingerprint_is_refused(copy: Path) -> None:
    with pytest.raises(StaleCodeError, match=r"build/code/merge") as raised:
        fingerprint.check("merge")
    assert "`dvc repro` (without --single-item)" in str(raised.value)


def test_a_stage_whose_code_is_not_that_of_its_fingerprint_is_refused(copy: Path) -> None:
    fingerprint.FOLDER.mkdir(parents=True)
    (fingerprint.FOLDER / "merge").write_text(fingerprint.of_stage("merge"))
    fingerprint.check("merge")
    module = copy / "tunesmith/training/merge.py"
    module.write_text(f"{module.read_text()}\nADDED = 1\n")
    with pytest.raises(StaleCodeError, match=r"build/code/merge: .* \(tunesmith/training/merge\.py\)"):
        fingerprint.check("merge")


def test_a_library_other_than_the_pinned_one_is_refused(copy: Path) -> None:
    fingerprint.FOLDER.mkdir(parents=True)
    text = re.sub(r"(?m)^peft==\S+", "peft==0.1", fingerprint.of_stage("merge"))
    (fingerprint.FOLDER / "merge").write_text(text)
    with pytest.raises(StaleCodeError, match=r"peft \S+ is installed, and requirements\.lock pins 0\.1"):
        fingerprint.check("merge")


def test_without_a_lock_the_libraries_of_an_image_are_those_of_its_digest(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint.FOLDER.mkdir(parents=True)
    text = re.sub(r"(?m)^peft==\S+", "peft==0.1", fingerprint.of_stage("merge"))
    (fingerprint.FOLDER / "merge").write_text(text)
    (copy / "requirements.lock").unlink()
    with pytest.raises(StaleCodeError, match=r"peft \S+ is installed, and this fingerprint pins 0\.1"):
        fingerprint.check("merge")
    monkeypatch.setenv("TUNESMITH_IMAGE_DIGEST", "sha256:0")
    fingerprint.check("merge")
