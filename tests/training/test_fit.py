"""How a training uses the memory: its batches, recomputation where it must be, and what to lower where it fails."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import method_project
import pytest
import torch
from transformers import set_seed

from stages import reference, train_dpo, train_sft
from tunesmith.core import journal
from tunesmith.core.errors import ResourceError
from tunesmith.models import device, loading
from tunesmith.models.loading import OpenModel
from tunesmith.training import fit
from tunesmith.training.entries.dpo import Dpo
from tunesmith.training.entries.kto import Kto
from tunesmith.training.entries.sft import Sft
from tunesmith.training.fit import Batchable
from tunesmith.training.spec import LargestStep
from tunesmith.training.trainer_config import BatchRecorder, Schedule

LORA = {"rank": 2, "alpha": 4}


@pytest.fixture(scope="module")
def policy(tiny_base: Path) -> OpenModel:
    set_seed(0)
    return loading.open_policy(tiny_base, tiny_base, device.detect(), "lora", Sft(dataset="rows", lora=LORA).adapter)


def has(monkeypatch: pytest.MonkeyPatch, gigabytes: float) -> None:
    """A machine with so much memory. The tiny model's largest parts are the libraries and its logits."""
    monkeypatch.setattr("tunesmith.planning.hardware.ram", lambda: int(gigabytes * 1e9))


def sft_step(batch: int) -> LargestStep:
    return LargestStep(batch=batch, length=4096)


@pytest.mark.parametrize(
    ("tokens_per_step", "tokens", "examples"),
    [(65536, 4096, 16), (4096, 4096, 1), (100, 4096, 1), (13 * 50, 50, 12), (15 * 50, 50, 16), (1000, 3.1, 320)],
)
def test_a_step_takes_as_many_examples_as_make_its_tokens(
    policy: OpenModel, tokens_per_step: int, tokens: float, examples: int
) -> None:
    entry = Dpo(dataset="rows", start="base", tokens_per_step=tokens_per_step)
    chosen = fit.choose("dpo", entry, policy, Batchable(lambda batch: LargestStep(batch=batch, length=8), tokens)).entry
    assert chosen.batch_size * chosen.gradient_accumulation == examples


def test_less_memory_makes_smaller_batches_of_the_same_steps_and_then_recomputes(
    policy: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Sft(dataset="rows", lora=LORA, max_length=4096, tokens_per_step=65536)
    seen = []
    for gigabytes in (100, 1.0, 0.01):
        has(monkeypatch, gigabytes)
        chosen = fit.choose("sft", entry, policy, Batchable(sft_step, tokens=4096))
        assert chosen.largest_step.batch * chosen.largest_step.accumulation == 16
        seen.append((chosen.entry.batch_size, chosen.profile.gradient_checkpointing))
    (roomy, first), (tight, _), (none, last) = seen
    assert (roomy, first) == (16, False)
    assert 1 <= tight < 16
    assert (none, last) == (1, True)


@pytest.mark.parametrize(("checkpointing", "gigabytes", "recomputed"), [("always", 100, True), ("never", 0.01, False)])
def test_recomputation_can_be_chosen(
    policy: OpenModel, monkeypatch: pytest.MonkeyPatch, checkpointing: Any, gigabytes: float, recomputed: bool
) -> None:
    has(monkeypatch, gigabytes)
    entry = Sft(dataset="rows", lora=LORA, checkpointing=checkpointing)
    chosen = fit.choose("sft", entry, policy, Batchable(sft_step))
    assert (chosen.entry, chosen.profile.gradient_checkpointing) == (entry, recomputed)


def test_a_batch_of_kto_has_an_answer_to_compare_with(policy: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, 0.01)
    entry = Kto(dataset="rows", start="base", tokens_per_step=60)
    step = LargestStep(batch=2, length=9)
    chosen = fit.choose("kto", entry, policy, Batchable(lambda batch: replace(step, batch=batch), tokens=9.0, least=2))
    assert (chosen.entry.batch_size, chosen.entry.gradient_accumulation) == (2, 3)


@pytest.mark.parametrize(
    ("schedule", "until"),
    [
        (Schedule(batch=1, rows=5, accumulation=2, epochs=2), [0, 2, 4, 5, 7, 9, 10]),
        (Schedule(batch=1, rows=3, accumulation=4, epochs=2), [0, 3, 6]),
        (Schedule(batch=1, rows=2, accumulation=1, epochs=1), [0, 1, 2]),
    ],
)
def test_the_last_step_of_an_epoch_takes_the_batches_that_are_left(schedule: Schedule, until: list[int]) -> None:
    assert [schedule.batches_until(step) for step in range(schedule.steps + 1)] == until
    recorder = BatchRecorder(lambda features: {}, lambda feature: [feature["id"]])
    recorder.schedule = schedule
    batches = [str(number) for number in range(until[-1])]
    for name in batches:
        recorder([{"id": name}])
    rows = [recorder.rows_of(step) for step in range(1, schedule.steps + 1)]
    assert [len(each) for each in rows] == [after - before for before, after in pairwise(until)]
    assert [row for each in rows for row in each] == batches
    recorder.skipped, recorder.batches = 1, recorder.batches[until[1] :]
    assert [recorder.rows_of(step) for step in range(1, schedule.steps + 1)] == [[], *rows[1:]]


@pytest.fixture
def project(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = method_project.make(tmp_path / "project", tiny_base)
    monkeypatch.chdir(folder)
    return folder


def sft_entry(**changes: Any) -> dict[str, Any]:
    return method_project.PARAMS | {"sft": {"sft-lora": method_project.SFT | {"weights": "lora"} | changes}}


@pytest.mark.parametrize("scheduler", ["linear", "cosine", "constant", "wsd"])
def test_the_learning_rate_follows_its_schedule(project: Path, scheduler: str) -> None:
    entry = {"scheduler": scheduler, "epochs": 5, "batch_size": 1, "learning_rate": 0.01}
    method_project.write_params(project, sft_entry(**entry))
    train_sft.main("sft-lora")
    events = journal.read(project / "models" / "sft-lora" / journal.NAME)
    rates = [event["learning_rate"] / 0.01 for event in events if event["event"] == "step"]
    middle, last = rates[len(rates) // 2], rates[-1]
    assert rates[0] == pytest.approx(1.0)
    match scheduler:
        case "linear" | "cosine":
            assert (middle, last) == (pytest.approx(0.5, abs=0.1), pytest.approx(0, abs=0.2))
        case "constant":
            assert set(rates) == {1.0}
        case "wsd":
            assert middle == pytest.approx(1.0)
            assert rates[-2] > last > 0 or len(rates) < 10
            assert (
                sum(rate < 1 for rate in rates) == round(0.2 * len(rates)) - 1
            )  # the first of them is still at the peak


def test_a_step_of_several_batches_counts_all_of_their_rows_and_tokens(project: Path) -> None:
    method_project.write_params(project, method_project.changed("dpo", batch_size=2, gradient_accumulation=3, epochs=2))
    train_sft.main("sft-lora")
    reference.main("dpo")
    train_dpo.main("dpo")
    events = journal.read(project / "models" / "dpo" / journal.NAME)
    start, end = journal.first(events, "start"), journal.first(events, "end")
    assert end["steps"] == 3  # 16 pairs, 6 a step
    assert end["tokens"] > 0
    assert start["largest_step"]["batch"] == 2


def test_a_step_takes_no_more_examples_than_there_are(policy: OpenModel) -> None:
    entry = Sft(dataset="rows", lora=LORA, max_length=4096, tokens_per_step=65536)
    chosen = fit.choose("sft", entry, policy, Batchable(sft_step, 4096, 2))
    assert (chosen.entry.batch_size, chosen.entry.gradient_accumulation) == (2, 1)


def test_the_params_that_a_model_records_are_those_that_were_written(project: Path) -> None:
    """Of a machine with another memory they would be others, and the model would differ from its params."""
    written = sft_entry(tokens_per_step=240)["sft"]["sft-lora"]
    method_project.write_params(project, sft_entry(tokens_per_step=240))
    train_sft.main("sft-lora")
    start = journal.first(journal.read(project / "models" / "sft-lora" / journal.NAME), "start")
    assert start["params"]["sft"]["sft-lora"]["batch_size"] == written["batch_size"]
    assert start["largest_step"]["batch"] * start["largest_step"]["accumulation"] != written["batch_size"]


def test_the_adapter_that_the_plan_counts_is_the_one_that_trains(project: Path) -> None:
    method_project.write_params(project, sft_entry(lora={"rank": 4}))
    train_sft.main("sft-lora")
    reference.main("dpo")
    train_dpo.main("dpo")
    largest = journal.first(journal.read(project / "models" / "dpo" / journal.NAME), "start")["largest_step"]
    assert largest["rank"] == 4  # of the start's adapter, which trains further; the entry names 2


@pytest.fixture
def out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. Of the allocated memory, …")

    monkeypatch.setattr("trl.SFTTrainer.compute_loss", fail)
    monkeypatch.setattr("tunesmith.training.objectives.sft.sequences", lambda *_, **__: 64)


@pytest.mark.parametrize(
    ("changes", "named", "unnamed"),
    [
        ({}, ["checkpointing: always (", "batch_size: 2, gradient_accumulation: 32 ("], ["tokens_per_step"]),
        ({"checkpointing": "always"}, ["batch_size: 2, gradient_accumulation: 32 ("], ["checkpointing"]),
        ({"tokens_per_step": 100_000_000}, ["gradient_accumulation: ", "tokens_per_step: null ("], []),
        ({"lora": {"rank": 2, "init": "pissa"}}, ["or lower max_length"], ["qlora"]),
    ],
)
def test_a_training_that_runs_out_of_memory_says_what_to_lower(
    project: Path, out_of_memory: None, changes: dict[str, Any], named: list[str], unnamed: list[str]
) -> None:
    method_project.write_params(project, sft_entry(**({"batch_size": 64, "max_length": 2048} | changes)))
    with pytest.raises(ResourceError) as raised:
        train_sft.main("sft-lora")
    assert "models/sft-lora: CUDA out of memory. Tried to allocate 2.00 GiB.; `tunesmith plan`" in raised.value.reason
    assert all(text in raised.value.fix for text in named)
    assert not any(text in raised.value.fix for text in unnamed)
    assert not (project / "models" / "sft-lora").exists()
