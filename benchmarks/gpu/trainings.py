"""Real trainings of a tiny model by the stages of the pipeline: whole, twice, stopped and resumed, and evaluated.

The project is a temporary folder with a random base; each training runs in a copy of it. A stopped training raises
after its first checkpoint, as a kill would leave it, and is started again. On a CPU the weights are the same to the
bit; on a GPU sums have no fixed order, so that the difference of a resumed training is to be read beside that of the
same training run twice.
"""

import contextlib
import functools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from zlib import crc32

from safetensors.torch import load_file

from tunesmith.core import fingerprint, journal, layout, manifest, params, ready_rows
from tunesmith.core.errors import TunesmithError
from tunesmith.training.checkpointer import Checkpointer
from tunesmith.verifiers import catalog
from tunesmith.verifiers.verdict import Verdict, Verifier

STOPPED_AFTER = 2
"""Steps before a training is stopped."""
MODEL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
COMMON: dict[str, Any] = {
    "lora": {"rank": 4, "alpha": 8},
    "learning_rate": 0.02,
    "warmup_share": 0.0,
    "batch_size": 4,
    "seed": 1,
    "probes": 0,
    "eval_steps": 2,
}
PAIRS = COMMON | {"dataset": "pairs", "start": "sft-lora", "max_length": 120, "epochs": 3}
ONLINE = COMMON | {
    "dataset": "prompts",
    "start": "sft-lora",
    "steps": 4,
    "prompts": 2,
    "group": 4,
    "batch_size": 8,
    "max_new_tokens": 8,
    "beta": 0.05,
    "max_kl": 1000.0,
    "max_prompt_length": 100,
}
SFT = COMMON | {"dataset": "answers", "max_length": 120, "batch_size": 2, "epochs": 4}
ENTRIES: dict[str, dict[str, dict[str, Any]]] = {
    "sft": {
        "sft-lora": SFT,
        "sft-full": SFT | {"weights": "full", "learning_rate": 0.005},
        "sft-qlora": SFT | {"weights": "qlora"},
    },
    "dpo": {"dpo": PAIRS | {"beta": 0.5}},
    "kto": {"kto": PAIRS | {"dataset": "marks", "beta": 0.5}},
    "reward": {"reward": PAIRS},
    "rlhf": {"rlhf": ONLINE | {"reward": "reward", "verifier": "number"}},
    "grpo": {"grpo": ONLINE | {"rewards": {"number": 1.0}}},
}
AFTER = {"dpo": ["sft-lora"], "kto": ["sft-lora"], "reward": ["sft-lora"], "grpo": ["sft-lora"]}
AFTER["rlhf"] = ["sft-lora", "reward"]


class Stopped(BaseException):
    """The stop of a training, which nothing of ours catches."""


def train(settings: dict[str, Any]) -> dict[str, Any]:
    """One entry: trained whole, again where the settings say ``twice``, and stopped and resumed."""
    name = settings["entry"]
    for needed in AFTER.get(name, []):
        _ensure(needed)
    first = _copy(f"{name}-whole")
    began = time.monotonic()
    _stage(first, name)
    seconds = time.monotonic() - began
    found: dict[str, Any] = {"seconds_whole": seconds}
    if settings.get("twice"):
        second = _copy(f"{name}-again")
        _stage(second, name)
        found["again"] = _differences(first, second, name)
    shutil.copytree(first / "models" / name, _project() / "models" / name, dirs_exist_ok=True)
    end = journal.first(journal.read(first / "models" / name / journal.NAME), "end")
    found |= {"steps": end["steps"], "peak_bytes": end["peak_memory_bytes"]}
    try:
        return found | _resumed(first, name)
    except TunesmithError as error:
        return found | {"ok": False, "error": f"resuming: {error}"}


def _resumed(whole: Path, name: str) -> dict[str, Any]:
    """The training stopped and started again, beside the ``whole`` one."""
    broken = _copy(f"{name}-stopped")
    with _stopping():
        try:
            _stage(broken, name)
        except Stopped:
            pass
        else:
            raise RuntimeError("the training was not stopped: it ended before its first checkpoint")
    _stage(broken, name)
    events = journal.read(broken / "models" / name / journal.NAME)
    after = [event["step"] for event in events if event["event"] == "resume"]
    return {
        "ok": after == [STOPPED_AFTER],
        "resumed_after": after,
        "resumed": _differences(whole, broken, name),
        "losses": [event["loss"] for event in events if event["event"] == "step"],
    }


def evaluate(settings: dict[str, Any]) -> dict[str, Any]:
    """The stage `evaluate` over the base and every policy that this process trained, and its seconds."""
    stage = import_module("stages.evaluate")
    _ensure("sft-lora")
    folder = _copy("evaluated")
    named = [name for entries in ENTRIES.values() for name in entries if name != "reward"]
    policies = [name for name in named if (folder / "models" / name).is_dir()]
    suite = {"dataset": "answers", "verifier": "number", "max_new_tokens": 8}
    chosen = {"evaluate": {"suites": {"sums": suite}, "noise_batch_size": 3}, "models": policies}
    began = time.monotonic()
    with _inside(folder):
        ready_rows.write_json(params.resolved("evaluate"), chosen)
        fingerprint.FOLDER.mkdir(parents=True, exist_ok=True)
        (fingerprint.FOLDER / "evaluate").write_text("a benchmark\n")
        stage.main([])
        scores = json.loads(stage.METRICS.read_text())
    return {"ok": {"base", *policies} == scores.keys(), "scores": scores, "seconds": time.monotonic() - began}


def _parity(completion: str, row: Any) -> Verdict:
    """A score that varies even over the answers of a random policy."""
    right = completion == row.get("reference") or crc32(completion.encode()) % 2 == 0
    return Verdict(float(right), completion, "for a benchmark")


@functools.cache
def _root() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tunesmith-gpu-")  # removed when this process ends


@functools.cache
def _project() -> Path:
    """The project, with a random base, ready rows and the params of every entry."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.tiny_model import make_tokenizer
    from tunesmith.models.base import base_model
    from tunesmith.models.base_sources import Folder

    catalog.VERIFIERS["number"] = Verifier(_parity)
    made, folder = Path(_root().name) / "made", Path(_root().name) / "project"
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(made)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **MODEL)).save_pretrained(made)
    source = Folder(kind="folder", path=made, sha256=manifest.folder_digest(made), chat_template=None)
    base_model.fetch(source, folder / layout.BASE)
    for dataset, rows in _rows().items():
        for split in ("train", "validation", "test"):
            ready_rows.write_jsonl(folder / layout.split(dataset, split), rows)
    for objective, entries in ENTRIES.items():
        for name, values in entries.items():
            for stage in (f"train_{objective}", *(["reference"] if objective == "dpo" else [])):
                ready_rows.write_json(folder / params.resolved(stage, name), {objective: {name: values}})
    return folder


def _rows() -> dict[str, list[Any]]:
    sums = [(a, b) for a in range(2, 10) for b in (11, 23, 37)]
    asked = [(f"r{a}x{b}", [{"role": "user", "content": f"What is {a} + {b}?"}], a + b) for a, b in sums]

    def say(text: object) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": str(text)}]

    return {
        "answers": [{"id": name, "prompt": prompt, "completion": say(total)} for name, prompt, total in asked[:16]],
        "pairs": [
            {"id": name, "prompt": prompt, "chosen": say(total), "rejected": say("no idea")}
            for name, prompt, total in asked[:8]
        ],
        "marks": [
            {"id": f"{name}{good}", "prompt": prompt, "completion": say(total if good else "no idea"), "label": good}
            for name, prompt, total in asked[:6]
            for good in (True, False)
        ],
        "prompts": [
            {"id": name, "prompt": prompt, "verifier": "number", "reference": str(total % 10)}
            for name, prompt, total in asked[:12]
        ],
    }


def _copy(name: str) -> Path:
    return Path(shutil.copytree(_project(), Path(_root().name) / name))


def _ensure(name: str) -> None:
    """Train an entry that another starts from, unless this process did."""
    if not (_project() / "models" / name).exists():
        for needed in AFTER.get(name, []):
            _ensure(needed)
        _stage(_project(), name)


def _stage(folder: Path, name: str) -> None:
    objective = name.partition("-")[0]
    with _inside(folder):
        if objective == "dpo":
            import_module("stages.reference").main(name)
        import_module(f"stages.train_{objective}").main(name)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Run in ``folder``, with a checkpoint after every step."""
    before = Path.cwd()
    os.environ[layout.CHECKPOINT_VARIABLE] = "0"
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """Stop any training in this block after the checkpoint of STOPPED_AFTER."""
    save: Any = Checkpointer.on_save

    def stop(self: Any, args: Any, state: Any, control: Any, **settings: Any) -> None:
        save(self, args, state, control, **settings)
        if state.global_step == STOPPED_AFTER:
            raise Stopped

    changed: Any = Checkpointer
    changed.on_save = stop
    try:
        yield
    finally:
        changed.on_save = save


def _differences(one: Path, other: Path, name: str) -> dict[str, Any]:
    """Whether the trained weights are the same, and their distance as a share of their norm."""
    weights = [load_file(next((folder / "models" / name).glob("*.safetensors"))) for folder in (one, other)]
    apart = sum(float((weights[1][key].float() - value.float()).norm() ** 2) for key, value in weights[0].items())
    whole = sum(float(value.float().norm() ** 2) for value in weights[0].values())
    digests = [manifest.verify(folder / "models" / name).weights_digest for folder in (one, other)]
    return {"same": digests[0] == digests[1], "distance": (apart / whole) ** 0.5}
