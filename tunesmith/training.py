"""What all trainers share: the journal, the checks that only what should move moves, and the atomic save."""

import json
import math
import time
import uuid
from pathlib import Path
from typing import Any

from peft import PeftModel
from tqdm import tqdm
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tunesmith import atomic, generation, journal, lineage, manifest, weights
from tunesmith.chat import Message
from tunesmith.device import Profile, keep_freed_memory, peak_memory_bytes
from tunesmith.errors import TrainingError
from tunesmith.journal import Journal
from tunesmith.live import published_live
from tunesmith.manifest import Manifest
from tunesmith.saving import save_model

PROBE_TOKENS = 32
"""Longest answer to a probe prompt."""


class Recorder(TrainerCallback):
    """Writes the trainer's logs to the journal, shows one progress bar, and stops at a loss that is not a number."""

    def __init__(self, log: Journal) -> None:
        self.log = log
        self.bar: tqdm[Any] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar = tqdm(total=state.max_steps, unit="step", desc="training", dynamic_ncols=True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        assert self.bar is not None
        self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        values = {name: value for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if "loss" not in values:
            return
        self.log.write("step", step=state.global_step, **values)
        if not all(math.isfinite(values.get(name, 0.0)) for name in ("loss", "grad_norm")):
            raise TrainingError(
                f"step {state.global_step}: loss {values['loss']}, gradient norm {values.get('grad_norm')}: not finite",
                fix="lower the learning rate in params.yaml; nothing was saved",
            )
        assert self.bar is not None
        self.bar.set_postfix(loss=f"{values['loss']:.3f}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.bar is not None
        self.bar.close()


def train(
    trainer: Trainer,
    *,
    out: Path,
    tokenizer: PreTrainedTokenizerBase,
    profile: Profile,
    probes: list[list[Message]],
    tokens: int,
    about: dict[str, Any],
    origin: lineage.Lineage,
) -> Manifest:
    """Run ``trainer``, whose model is a `PeftModel`, and save the adapter to ``out``, whole or not at all.

    probes: prompts answered before and after. tokens: how many the run trains on, padding not counted.
    about: {model, method, params, dataset}, for the journal. origin: the lineage to save with the adapter.
    Raises TrainingError where the loss is not finite, the base moved, or every probe is answered as before.
    """
    model = trainer.model
    assert isinstance(model, PeftModel)
    if profile.device == "cpu":
        keep_freed_memory()
    with atomic.new_folder(out) as work:
        with Journal(work / journal.NAME) as log:
            log.write("start", key=uuid.uuid4().hex, device=profile.name, **about)
            with published_live(log.path):
                frozen = weights.frozen_digest(model)
                before = _answer_probes(log, "before", model, tokenizer, probes)
                began = time.monotonic()
                _run(trainer, log)
                seconds = time.monotonic() - began
                after = _answer_probes(log, "after", model, tokenizer, probes)
                check_movement(frozen, weights.frozen_digest(model), before, after)
                _save(model, tokenizer, origin, work)
                trainable, total = weights.count_parameters(model)
                log.write(
                    "end",
                    steps=trainer.state.global_step,
                    seconds=seconds,
                    tokens=tokens,
                    peak_memory_bytes=peak_memory_bytes(profile),
                    trainable_parameters=trainable,
                    total_parameters=total,
                )
        return manifest.write(work)


def check_movement(frozen_before: str, frozen_after: str, before: list[str], after: list[str]) -> None:
    """Raise TrainingError if frozen weights moved, or if no probe answer did."""
    if frozen_before != frozen_after:
        raise TrainingError(
            "the base's weights changed though only the adapter should train",
            fix="report this with your params.yaml; nothing was saved",
        )
    if before and before == after:
        raise TrainingError(
            f"the tuned model answers all {len(before)} probe prompts exactly as the base does: training had no effect",
            fix="raise the learning rate or the epochs in params.yaml; nothing was saved",
        )


def _run(trainer: Trainer, log: Journal) -> None:
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Recorder(log))
    trainer.train()


def _answer_probes(
    log: Journal, when: str, model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[Message]]
) -> list[str]:
    answers = generation.answer(model, tokenizer, prompts, max_new_tokens=PROBE_TOKENS)
    for prompt, completion in zip(prompts, answers, strict=True):
        log.write("sample", when=when, prompt=prompt, completion=completion)
        print(f"  {when}: {prompt[-1]['content'][:80]!r} -> {completion[:80]!r}")
    return answers


def _save(model: PeftModel, tokenizer: PreTrainedTokenizerBase, origin: lineage.Lineage, folder: Path) -> None:
    save_model(model, folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's template of a model card: all blanks
    config = folder / "adapter_config.json"
    settings = json.loads(config.read_text())
    settings["target_modules"] = sorted(settings["target_modules"])  # peft writes a set, in a new order each time
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    tokenizer.save_pretrained(folder)
    (folder / lineage.NAME).write_text(json.dumps(origin, indent=2) + "\n")
