from pathlib import Path

import pytest

from tunesmith.cli.doctor import engine
from tunesmith.cli.doctor.engine import Card
from tunesmith.models.engines.environment import Environment
from tunesmith.models.engines.settings import Engine

GIB = 2**30
L4 = Card("NVIDIA L4", driver=580, capability=8.9, free=22 * GIB, total=24 * GIB)
CUDA = Environment(Path("/e/bin/python"), "0.32.0", "cuda", "ab" * 32, "installed")
CPU = Environment(Path("/e/bin/python"), "0.32.0+cpu", "cpu", "cd" * 32, "installed")
THEIRS = Environment(Path("/x/python"), "0.32.0", "cuda", "ef" * 32, "python")
SERVER = Environment(None, "0.32.0", "cuda", None, "address")
IMAGE = Environment(None, "", "cuda", "01" * 32, "image")


@pytest.mark.parametrize(
    ("found", "card", "level", "says", "fix"),
    [
        (None, None, "good", "vLLM is not installed; transformers generates", ""),
        (None, L4, "warning", "several times slower on a GPU", "`tunesmith engine install`"),
        (CUDA, L4, "good", "vLLM 0.32.0 for CUDA, of `tunesmith engine install`, sha256:abababababab; 23.62 GB of", ""),
        (CPU, None, "good", "vLLM 0.32.0+cpu for a CPU, of `tunesmith engine install`", ""),
        (
            THEIRS,
            None,
            "bad",
            "of engine.python, sha256:efefefefefef; no GPU answers here",
            "`tunesmith engine install`",
        ),
        (
            CPU,
            L4,
            "warning",
            "for a CPU, of `tunesmith engine install`, sha256:cdcdcdcdcdcd, beside NVIDIA L4",
            "install",
        ),
        (SERVER, None, "good", "vLLM 0.32.0, of engine.address", ""),
        (IMAGE, L4, "good", "vLLM, of engine.image, sha256:010101010101", ""),
    ],
)
def test_the_finding_names_what_is_used_and_whether_it_fits(
    found: Environment | None, card: Card | None, level: str, says: str, fix: str
) -> None:
    finding = engine.vllm(Engine, lambda _: found, lambda: card)
    assert (finding.name, finding.level) == ("engine", level)
    assert says in finding.says
    assert fix in finding.fix
    assert bool(finding.fix) == (level != "good")


@pytest.mark.parametrize(
    ("card", "section", "level", "says", "fix"),
    [
        ({"driver": 570}, {}, "bad", "CUDA 13 needs driver 580, and NVIDIA L4 has 570", "update the driver"),
        ({"capability": 7.0}, {}, "bad", "no code for NVIDIA L4, of compute capability 7", "engine.python"),
        ({"capability": 7.5}, {}, "warning", "does not compute in bfloat16", "engine.dtype to float16"),
        ({"capability": 7.5}, {"dtype": "float16"}, "good", "", ""),
        ({"free": 12 * GIB}, {}, "warning", "0.85 takes 21.90 GB", "gpu_memory_share to 0.5 or less"),
        ({"free": 12 * GIB}, {"gpu_memory_share": 0.5}, "good", "12.88 GB of 25.77 GB free", ""),
    ],
)
def test_a_card_that_does_not_fit_is_named_with_what_it_lacks(
    card: dict[str, float], section: dict[str, float], level: str, says: str, fix: str
) -> None:
    gpu = Card(**(vars(L4) | card))  # type: ignore[arg-type]
    finding = engine.vllm(lambda: Engine.model_validate(section), lambda _: CUDA, lambda: gpu)
    assert finding.level == level
    assert says in finding.says
    assert fix in finding.fix


def test_an_older_driver_is_no_problem_of_a_vllm_of_the_users_own() -> None:
    old = Card(**(vars(L4) | {"driver": 550}))
    assert engine.vllm(Engine, lambda _: THEIRS, lambda: old).level == "good"


def test_another_version_than_the_locks_is_a_warning() -> None:
    other = Environment(Path("/x/python"), "0.20.1", "cuda", "ef" * 32, "python")
    finding = engine.vllm(Engine, lambda _: other, lambda: L4)
    assert (finding.level, finding.says.endswith("; tested with 0.32.0")) == ("warning", True)


@pytest.mark.parametrize(
    ("prints", "card"),
    [
        ("NVIDIA L4, 580.65.06, 8.9, 22528, 24576\nNVIDIA L4, 580.65.06, 8.9, 1, 24576", L4),
        ("NVIDIA L4, 580.65.06, 8.9, [N/A], [N/A]", None),
        ("No devices were found", None),
        ("", None),
    ],
)
def test_the_first_card_is_read_as_nvidia_smi_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str, card: Card | None
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{prints}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert engine.card() == card


def test_outside_of_a_project_the_section_has_its_defaults(tmp_path: Path) -> None:
    assert engine.settings(tmp_path / "params.yaml") == Engine()
    (tmp_path / "params.yaml").write_text("engine: {dtype: float16}\n")
    assert engine.settings(tmp_path / "params.yaml").dtype == "float16"
