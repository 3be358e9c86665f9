import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tunesmith.cli.doctor import finding, machine
from tunesmith.core.errors import ContainerError, ParamsError, SandboxError

ROOT = Path(__file__).parents[3]
LOCK = """
here==1.0 \\
    --hash=sha256:00
elsewhere==2.0 ; sys_platform == 'nowhere' \\
    --hash=sha256:00
also-here==3.1 \\
    --hash=sha256:00
"""
RUNTIME = """
runtime: {engine: %s, image: %s, gpus: null, memory: null, cpus: null, pids: 10, shared_memory: 1g, scratch: 1g,
  network: none, mounts: [], grace: 1}
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text(LOCK)
    return path


def installed(**versions: str) -> metadata.PathDistribution:
    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    return version


@pytest.mark.parametrize(
    ("versions", "level", "says"),
    [
        ({"here": "1.0", "also-here": "3.1"}, "good", "those of the lock"),
        ({"here": "1.0"}, "bad", "also-here 3.1 not installed"),
        ({"here": "1.1", "also-here": "3.1"}, "warning", "not those of the lock: here 1.1, not 1.0"),
    ],
)
def test_libraries_are_compared_with_the_lock(lock: Path, versions: dict[str, str], level: str, says: str) -> None:
    found = machine.python(lock, installed(**versions))
    assert found.level == level
    assert found.says.startswith(says)
    assert found.fix or level == "good"


def test_many_missing_libraries_are_counted(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("".join(f"p{number}==1 \\\n" for number in range(9)))
    found = machine.python(tmp_path / "lock", installed())
    assert found.says.endswith("p4 1 and 4 more not installed")


@pytest.mark.parametrize(
    ("versions", "level", "says"),
    [
        ({"here": "1.2", "pinned": "2.0+cpu"}, "good", "those of the installed tunesmith"),
        ({"here": "1.2"}, "good", "those of the installed tunesmith"),
        ({"here": "1.2", "pinned": "2.1"}, "warning", "not those of the installed tunesmith: pinned 2.1, not 2.0"),
        ({"pinned": "2.0"}, "bad", "here >=1.1 not installed"),
    ],
)
def test_without_a_lock_libraries_are_compared_with_what_the_package_requires(
    tmp_path: Path, versions: dict[str, str], level: str, says: str
) -> None:
    required = ["here>=1.1", "elsewhere; sys_platform == 'nowhere'", "pinned==2.0; extra == 'train'"]
    found = machine.python(tmp_path / "none", installed(**versions), lambda: required)
    assert (found.level, found.says.startswith(says)) == (level, True), found.says


def test_no_hint_names_a_command_that_only_this_repository_has() -> None:
    """Makefile, scripts and locks of Tunesmith's own repository do not exist in a user's project."""
    for path in (ROOT / "tunesmith").rglob("*.py"):
        assert not re.search(r"`make\b|\bmake (?:repro|ui|image|test)\b|\.ci/|see pyproject", path.read_text()), path


@pytest.mark.parametrize(
    ("free", "level"), [(100_000_000_000, "good"), (5_000_000_000, "warning"), (500_000_000, "bad")]
)
def test_a_disk_must_hold_a_full_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    monkeypatch.chdir(tmp_path)
    training = "{dataset: rows, weights: full}"
    entries = (
        f"sft: {{a: {training}, b: {training}, c: {{dataset: rows}}}}\npackage: {{merged: {{d: {{adapter: c}}}}}}\n"
    )
    (tmp_path / "params.yaml").write_text(entries)
    found = machine.disk([tmp_path], lambda path: free)
    assert found.level == level
    assert "a full run takes about 14.00 GB" in found.says  # 3 x 4 models of 1 GB, and 2 GB


def test_the_fullest_disk_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("{}")
    found = machine.disk([tmp_path, Path("/cache")], lambda path: 10 if path == Path("/cache") else 10**12)
    assert (found.level, "10 B free at /cache" in found.says) == ("bad", True)


@pytest.mark.parametrize(
    ("driver", "torch", "device", "level", "says"),
    [
        (None, "2.13.0+cpu - 0", False, "good", "none; torch 2.13.0+cpu trains on the CPU"),
        ("H200, 570", "2.13.0+cu130 13.0 1", True, "good", "H200, 570; torch 2.13.0+cu130"),
        ("H200, 570", "2.13.0+cpu - 0", True, "bad", "H200, 570, but torch 2.13.0+cpu is built without CUDA"),
        (None, "2.13.0+cpu - 0", True, "bad", "an NVIDIA device whose driver does not answer, but torch"),
        (
            "H200, 470",
            "2.13.0+cu130 13.0 0",
            True,
            "bad",
            "H200, 470, but torch 2.13.0+cu130 (CUDA 13.0) cannot use it",
        ),
        (None, None, False, "bad", "torch does not answer"),
    ],
)
def test_a_gpu_must_be_one_that_torch_can_use(
    tmp_path: Path, driver: str | None, torch: str | None, device: bool, level: str, says: str
) -> None:
    place = tmp_path / "nvidia0"
    if device:
        place.touch()
    found = machine.gpu(lambda: driver, lambda: torch, place, lambda: True)
    assert found.level == level
    assert found.says.startswith(says)
    assert bool(found.fix) is (level == "bad")


def test_a_gpu_without_a_compiler_is_a_warning() -> None:
    found = machine.gpu(lambda: "H200, 570", lambda: "2.13.0+cu130 13.0 1", compiles=lambda: False)
    assert found.level == "warning"
    assert "no C compiler" in found.says


def test_a_compiler_counts_where_triton_would_find_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(machine.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert not machine.can_compile()
    monkeypatch.setenv("CC", "cc")
    assert machine.can_compile()
    (tmp_path / "Python.h").unlink()
    assert not machine.can_compile()


def test_the_question_to_torch_runs() -> None:
    report = finding.answer(sys.executable, "-c", machine.TORCH, seconds=60)
    assert report is not None
    assert len(report.split()) == 3


@pytest.mark.parametrize(
    "command", [["no-such-program"], [sys.executable, "-c", "import sys; sys.exit(1)"], ["sleep", "60"]]
)
def test_a_program_that_is_missing_fails_or_hangs_gives_no_answer(command: list[str]) -> None:
    assert finding.answer(*command, seconds=1.0) is None


@pytest.mark.parametrize(("stated", "level"), [("2", "good"), ("8", "warning"), (None, "good"), ("many", "good")])
def test_more_threads_than_cpus_are_a_warning(monkeypatch: pytest.MonkeyPatch, stated: str | None, level: str) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if stated is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", stated)
    assert machine.thread_pools(lambda: 2).level == level


def test_a_missing_sandbox_is_a_warning_with_its_reason() -> None:
    def none() -> str:
        raise SandboxError("no sandbox holds here: bubblewrap: not installed", fix="install bubblewrap")

    found = machine.code_sandbox(none)
    assert (found.level, found.fix) == ("warning", "install bubblewrap")
    assert "bubblewrap: not installed" in found.says
    assert machine.code_sandbox(lambda: "landlock").level == "good"


def runtime(folder: Path, engine: str, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "params.yaml").write_text(RUNTIME % (engine, image))


def test_stages_on_the_host_need_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime(tmp_path, "host", "null", monkeypatch)
    assert machine.containers().level == "good"


def test_an_engine_that_does_not_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime(tmp_path, "docker", f"'sha256:{'0' * 64}'", monkeypatch)

    def absent() -> None:
        raise ContainerError("no Docker engine answers at its usual socket", fix="start one")

    monkeypatch.setattr("tunesmith.runtime.docker.connect", absent)
    with pytest.raises(ContainerError, match="no Docker engine answers"):
        machine.containers()


def test_an_engine_without_an_image_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime(tmp_path, "docker", "null", monkeypatch)
    with pytest.raises(ParamsError, match=r"runtime\.image"):
        machine.containers()
