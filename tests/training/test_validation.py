import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import method_project
import pytest
import torch

from stages import train_sft
from tunesmith.core import journal, layout, ready_rows, statistics
from tunesmith.core.checkpoints import Store
from tunesmith.core.journal import Journal
from tunesmith.models import device, loading
from tunesmith.training.entries.sft import Sft
from tunesmith.training.measurements import Graded
from tunesmith.training.objectives import sft
from tunesmith.training.validation import Validator


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / journal.NAME) as opened:
        yield opened


def run(log: Journal, scores: list[float], **params: Any) -> tuple[Validator, torch.nn.Linear, int]:
    """Validate a model of one weight, which is 0.1 after the first step, and so on; the number of steps made."""
    entry = Sft(dataset="d", **params)
    left = iter(scores)
    validator = Validator(log, lambda: Graded(next(left)), entry, Store(log.path.parent / "store"))
    model = torch.nn.Linear(1, 1, bias=False)
    last = 10 if entry.eval_steps < 1 else int(len(scores) * entry.eval_steps)
    for step in range(1, last + 1):
        torch.nn.init.constant_(model.weight, step / 10)
        control = SimpleNamespace(should_training_stop=False)
        validator.on_log(None, SimpleNamespace(global_step=step, max_steps=last), control, model=model)
        if control.should_training_stop:
            return validator, model, step
    return validator, model, last


@pytest.mark.parametrize(
    ("scores", "params", "steps", "kept"),
    [
        ([0.1, 0.5, 0.3, 0.2], {}, 4, 2),
        ([0.1, 0.5, 0.5, 0.2], {}, 4, 3),  # of equals the last, which has learned most
        ([0.5, 0.5, 0.5, 0.2], {"patience": 2}, 3, 3),
        ([0.1, 0.2, 0.3, 0.4], {}, 4, 4),
        ([math.nan, 0.2, math.nan, 0.1], {}, 4, 2),
        ([0.1, 0.5, 0.3, 0.2], {"keep": "last"}, 4, 4),
        ([0.1, 0.5, 0.3, 0.2, 0.1, 0.9], {"patience": 2}, 4, 2),
        ([0.1, 0.5, 0.3, 0.6, 0.1, 0.2], {"patience": 2}, 6, 4),
        ([0.1, 0.5, 0.3, 0.2], {"eval_steps": 2}, 8, 4),
        ([0.1, 0.5, 0.3, 0.2], {"eval_steps": 0.3}, 10, 6),  # steps 3, 6, 9, 10
    ],
)
def test_the_best_step_is_kept_and_the_training_stops_where_none_is_better(
    log: Journal, scores: list[float], params: dict[str, Any], steps: int, kept: int
) -> None:
    validator, model, made = run(log, scores, **{"eval_steps": 1} | params)
    assert made == steps
    assert validator.keep(model, made) == kept
    assert model.weight.item() == pytest.approx(kept / 10)
    events = [event for event in journal.read(log.path) if event["event"] == "validation"]
    measured = scores[: len(events)]
    assert [event["score"] for event in events] == [None if math.isnan(score) else score for score in measured]


def test_without_a_measurement_the_last_step_is_kept(log: Journal) -> None:
    validator = Validator(log, None, Sft(dataset="d"), Store(log.path.parent / "store"))
    model = torch.nn.Linear(1, 1)
    validator.on_log(None, SimpleNamespace(global_step=3, max_steps=3), None, model=model)
    assert validator.keep(model, 3) == 3


@pytest.fixture
def project(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = method_project.make(tmp_path / "project", tiny_base)
    monkeypatch.chdir(folder)
    return folder


def train(project: Path, **changes: Any) -> tuple[list[dict[str, float]], list[float]]:
    """Train SFT; the steps of its journal, and the losses on the validation split."""
    entry = method_project.SFT | changes
    method_project.write_params(project, method_project.PARAMS | {"sft": {"s": entry}})
    train_sft.main("s")
    events = journal.read(layout.MODELS / "s" / journal.NAME)
    return journal.steps(events), [event["loss"] for event in events if event["event"] == "validation"]


def test_validating_changes_no_step(project: Path) -> None:
    lora = {"lora": {"rank": 2, "dropout": 0.3}, "epochs": 2}
    often, losses = train(project, eval_steps=1, keep="last", **lora)
    seldom, two = train(project, eval_steps=100, keep="last", **lora)
    assert often == seldom
    assert (len(losses), len(two)) == (1 + len(often), 2)


def test_a_training_that_overfits_keeps_weights_that_are_better_on_the_test_split(project: Path) -> None:
    rows = ready_rows.read(layout.split("answers", "train"))
    for split, part in (("train", rows[:5]), ("validation", rows[5:10]), ("test", rows[10:])):
        ready_rows.write_jsonl(layout.split("answers", split), part)
    losses = {}
    for keep in ("best", "last"):
        _, curve = train(project, keep=keep, weights="full", epochs=40, learning_rate=0.01, eval_steps=4)
        assert min(curve) < curve[-1] - 0.2  # it overfits
        policy = loading.open_model(layout.MODELS / "s", layout.BASE, device.detect())
        examples = sft.encode(policy.tokenizer, rows[10:], Sft(dataset="answers"), "sft.s", Path("test"))
        losses[keep] = [sft.right_answers(policy, [example]).surprise for example in examples.values()]
    gains = [last - best for last, best in zip(losses["last"], losses["best"], strict=True)]
    assert statistics.mean_interval(gains, confidence=0.95, resamples=2000, seed=0).low > 0
