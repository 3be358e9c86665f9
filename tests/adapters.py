"""Model folders as trainings leave them, with random weights on the tiny base, without training."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.profiles import EXACT
from tunesmith.core import journal, lineage, manifest
from tunesmith.core.params import TemplateKwargs
from tunesmith.core.ready_rows import Message, Sample
from tunesmith.models import chat_template, generation, loading, saving

PROBE = [{"role": "user", "content": "What is 3 + 4?"}]


def write(folder: Path, base: Path, *, on: Path | None = None, scale: float = 1.0, **lora: Any) -> Path:
    """Write an adapter of rank 4 on ``on``, or the base. scale: of random weights. lora: settings of LoraConfig."""
    on = on or base
    torch.manual_seed(1)
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"]}
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(on, dtype="auto"), LoraConfig(task_type="CAUSAL_LM", **settings | lora)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(scale * torch.randn_like(parameter))
    model.save_pretrained(folder)
    _complete(folder, base, on)
    return folder


def write_full(folder: Path, base: Path) -> Path:
    """Write full weights that differ from the base's."""
    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    _complete(folder, base, None)
    return folder


def rounded(base: Path, folder: Path) -> Path:
    """Write the base in bfloat16."""
    shutil.copytree(base, folder)
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(folder)
    manifest.write(folder)
    return folder


def edit(folder: Path, file: str, **changes: Any) -> None:
    """Change values of a JSON file in a folder, and its manifest with it."""
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    manifest.write(folder)


def samples(
    folder: Path, base: Path, prompts: list[list[Message]], suites: Mapping[str, TemplateKwargs], length: int = 6
) -> list[Sample]:
    """Return greedy answers of a model as an evaluation leaves them; the suites share the prompts between them."""
    opened = loading.open_model(folder, base, EXACT)
    answered: list[Sample] = []
    for first, (suite, kwargs) in enumerate(suites.items()):
        tokenizer, own = chat_template.with_kwargs(opened.tokenizer, kwargs), prompts[first :: len(suites)]
        answers = generation.answer(opened.model, tokenizer, [{"prompt": one} for one in own], max_new_tokens=length)
        answered += [
            {"suite": suite, "row": {"id": str(number), "prompt": prompt}, "completion": answer, "tokens": length}
            for number, (prompt, answer) in enumerate(zip(own, answers, strict=True))
        ]
    return answered


def _complete(folder: Path, base: Path, on: Path | None) -> None:
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    base_manifest = manifest.read(base)
    origin = lineage.collect(base=base_manifest, source="folder tiny", inputs=[], params={}, seed=1, device="a test")
    method = {"objective": "sft", "weights": "lora" if on else "full"}
    under = {"on": {"model": on.name, **digests(on)}} if on else {}
    origin |= {"method": method, **under, "parents": {base.name: digests(base)}}
    (folder / lineage.NAME).write_text(json.dumps(origin))
    saving.write_card(folder, folder.name, origin)
    with journal.Journal(folder / journal.NAME) as log:
        about: dict[str, Any] = {
            "method": "SFT with LoRA",
            "objective": "sft",
            "weights": "lora",
            "start": "base",
            "params": {},
        }
        step = {"batch": 2, "length": 16, "completion": 0, "labelled": 8, "rollouts": 0, "group": 1, "reference": False}
        about["largest_step"] = step | {"rank": 4, "device": "cpu", "dtype_bytes": 4, "checkpointing": False}
        log.write("start", key=folder.name, model=folder.name, device="a test", dataset="rows", rows=9, **about)
        log.write("sample", when="before", prompt=PROBE, completion="?")
        log.write("validation", step=0, loss=2.5)
        log.write("step", step=1, loss=2.0)
        log.write("validation", step=1, loss=2.1)
        log.write("sample", when="after", prompt=PROBE, completion="!")
        log.write("warning", text="look here")
        counts = {"trainable_parameters": 10, "total_parameters": 100, "peak_memory_bytes": 2**50}
        log.write(
            "end", steps=1, kept=1, seconds=60.0, tokens=7, costs={"sft-start": 30.0, folder.name: 60.0}, **counts
        )
    manifest.write(folder)


def digests(folder: Path) -> dict[str, str]:
    present = manifest.read(folder)
    return {"digest": present.digest, "weights_digest": present.weights_digest}
