"""The same params give the same model on one process and on several."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import ranked_trainings
from tests.ranked_trainings import losses, train
from tunesmith.core import journal, manifest

MODELS = {
    "none": ["train_dpo/full-dpo", "train_kto/lora-kto", "train_grpo/lora-grpo"],
    "full": ["train_sft/full-sft", "train_reward/full-reward", "train_grpo/lora-grpo"],
}
"""Models whose processes have all weights, or divide them; benchmarks/processes.py trains every kind both ways."""
BASES = {"none": "tiny_base", "full": "tied_base"}
"""Fixtures. The rows of the tied weight, 289, do not divide evenly."""
TOLERANCE = 1e-4
"""Between the losses of a step, and between full weights after the last, in float32."""

pytestmark = pytest.mark.real  # a minute or two


@pytest.fixture(scope="module", params=["none", "full"])
def sharding(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def started(request: pytest.FixtureRequest, sharding: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = request.getfixturevalue(BASES[sharding])
    return ranked_trainings.start(tmp_path_factory.mktemp("processes") / "project", base)


@pytest.fixture(scope="module")
def copy(started: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    return lambda: Path(shutil.copytree(started, tmp_path_factory.mktemp("trained") / "project"))


@pytest.fixture(scope="module")
def one(copy: Callable[[], Path], sharding: str) -> Path:
    """A project whose models one process trained."""
    folder = copy()
    done = train(folder, 1, *MODELS[sharding])
    assert done.returncode == 0, done.stdout[-3000:]
    return folder


@pytest.fixture(scope="module")
def two(copy: Callable[[], Path], sharding: str) -> Path:
    """A project whose models two processes trained."""
    folder = copy()
    done = train(folder, 2, *MODELS[sharding], sharding=sharding)
    assert done.returncode == 0, done.stdout[-3000:]
    return folder


def test_losses_are_those_of_one_process(one: Path, two: Path, sharding: str) -> None:
    for model in MODELS[sharding]:
        assert losses(two, model) == pytest.approx(losses(one, model), abs=TOLERANCE), model


def test_full_weights_are_those_of_one_process(one: Path, two: Path, sharding: str) -> None:
    """An adapter's may differ where Adam divides gradients near 0 by their size."""
    path = Path("models", MODELS[sharding][0].split("/")[1], "model.safetensors")
    alone, together = load_file(one / path), load_file(two / path)
    assert alone.keys() == together.keys()
    assert all(torch.allclose(together[name], alone[name], rtol=0, atol=TOLERANCE) for name in alone)


def test_a_training_goes_on_after_a_process_died(one: Path, two: Path, copy: Callable[[], Path], sharding: str) -> None:
    model, folder = MODELS[sharding][0], copy()
    out, settings = folder / "models" / model.split("/")[1], {"sharding": sharding, "TUNESMITH_CHECKPOINT_SECONDS": "0"}
    done = train(folder, 2, model, **settings, TUNESMITH_TEST_DIES="1:3")
    told = done.stdout.count("process 2 of 2 ended by SIGKILL, so all were ended")
    assert (done.returncode, told) == (137, 1), done.stdout[-3000:]
    assert not out.exists()
    other = Path(shutil.copytree(folder, folder.parent / "other"))
    assert train(folder, 2, model, **settings).returncode == 0
    resumed = [event["step"] for event in journal.read(out / journal.NAME) if event["event"] == "resume"]
    assert resumed in ([1], [2])
    assert manifest.verify(out).weights_digest == manifest.verify(two / "models" / out.name).weights_digest
    if sharding == "none":
        assert train(other, 1, model, **settings).returncode == 0
        assert losses(other, model) == pytest.approx(losses(one, model), abs=TOLERANCE)
