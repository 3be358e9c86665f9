"""Peak memory of trainings beside what `tunesmith plan` predicts.

    python -m benchmarks.memory demo [--base models/base] [--models models]
    python -m benchmarks.memory cpu [--base models/base] [--sizes 1x256 2x256]
    python -m benchmarks.memory gpu [--model llama-3.1-8b] [--sizes 1x1024 4x1024 2x4096]

`demo`: every training of a project that has run (`dvc repro` trains the demo's), from its journal: the peak of its
whole process, with imports, validation, probes, checkpoints and generation. Rollouts are predicted as long as they may
be; the second line of such a training predicts them as long as they were. benchmarks/results/memory-cpu.md has results.

The others are SFT alone, three steps of the library's own trainer in a process of its own: the optimizer's moments are
made in the first. Every token but the first of a row is trained, the most that the output head can have to score.
`cpu`: the project's base (`dvc repro fetch_base`); the peak of resident memory, imported libraries included. `gpu`: a
model of that shape with random weights made on the GPU, nothing downloaded; the peak of torch's allocations, beside the
prediction without the driver's share. Runs that are predicted not to fit are skipped. Without a GPU, `--anywhere` does
the same on the CPU (with `--model smollm2-135m --sizes 1x128`, say).
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

STEPS, RANK = 3, 16
KINDS = ("lora", "qlora", "full")
HEADINGS = f"{'method':<16} {'size':>8} {'predicted':>10} {'measured':>10} {'ratio':>6}  load"


def measure(model: str, kind: str, batch: int, length: int, *, random_weights: bool) -> dict[str, Any]:
    """Train in this process, and return predicted and measured bytes, or the reason for skipping."""
    import torch

    from tunesmith.planning import hardware, memory, model_shape
    from tunesmith.planning.workload import Workload

    here, shape = hardware.detect(), model_shape.read(model)
    workload = Workload(
        objective="sft", weights=kind, batch=batch, length=length, machine=here.machine, rank=RANK, shapes=1
    )
    predicted = memory.predict(shape, workload)
    if predicted.total > here.budget:
        return {"skipped": "is predicted not to fit", "predicted": predicted.total}
    driver = memory.CUDA_CONTEXT if here.machine.device == "cuda" else 0
    measured = train(model, kind, batch, length, random_weights=random_weights)
    held = {"reserved": torch.cuda.max_memory_reserved()} if driver else {}
    return {"predicted": predicted.total - driver, "measured": measured, "moment": predicted.moment, **held}


def train(model: str, kind: Any, batch: int, length: int, *, random_weights: bool) -> int:
    """Train STEPS steps of SFT, and return the peak in bytes."""
    from transformers import set_seed

    from benchmarks import random_models
    from tunesmith.models import chat, device, loading
    from tunesmith.models.settings import Lora
    from tunesmith.training import trainer_config
    from tunesmith.training.entries.sft import Sft
    from tunesmith.training.objectives import sft

    set_seed(0)
    profile, lora = device.detect(), Lora(rank=RANK, alpha=2 * RANK, dropout=0.0)
    base = Path(model)
    policy = (
        random_models.policy(model, kind, profile, lora)
        if random_weights
        else loading.open_policy(base, base, profile, kind, lora)
    )
    rng = random.Random(0)
    examples = {}
    for number in range(batch * STEPS):
        tokens = [rng.randrange(3, policy.model.config.vocab_size) for _ in range(length)]
        examples[str(number)] = chat.Example(tokens, [0] + [1] * (length - 1))
    settings = Sft(
        dataset="random",
        weights=kind,
        lora=lora,
        turns="completion",
        epochs=1,
        learning_rate=1e-5 if kind == "full" else 1e-4,
        warmup_share=0.0,
        max_length=length,
        batch_size=batch,
        seed=0,
        probes=0,
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = sft.make_trainer(policy, examples, settings, profile, Path(scratch))
        if profile.device == "cpu":
            device.keep_freed_memory()  # as `training.run.train` does
            trainer_config.patch_trl()
        trainer.train()
    return device.peak_memory_bytes(profile)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", choices=["demo", "cpu", "gpu", "one"])
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--base", default="models/base")
    parser.add_argument("--model", default="llama-3.1-8b")
    parser.add_argument("--sizes", nargs="+")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--anywhere", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(**json.loads(options.one))))
        return
    if options.where == "demo":
        from tunesmith.planning import model_shape

        shape = model_shape.read(options.base)
        print(HEADINGS)
        for folder in sorted(path.parent for path in options.models.glob("*/training.jsonl")):
            compare(folder, shape)
        return
    random_weights = options.where == "gpu"
    if random_weights and not options.anywhere:
        import torch

        if not torch.cuda.is_available():
            sys.exit("torch sees no GPU here; --anywhere does the same on the CPU")
    sizes = options.sizes or (["1x1024", "4x1024", "2x4096"] if random_weights else ["1x256", "2x256"])
    print(HEADINGS)
    for size in sizes:
        batch, length = map(int, size.split("x"))
        for kind in options.kinds:
            model = options.model if random_weights else options.base
            report(kind, size, alone(model=model, kind=kind, batch=batch, length=length, random_weights=random_weights))


def compare(folder: Path, shape: Any) -> None:
    """Print the predicted and the measured peak of a training that has run."""
    from tunesmith.core import journal
    from tunesmith.planning import memory, workload

    events = journal.read(folder / journal.NAME)
    start, end = journal.first(events, "start"), journal.first(events, "end")
    if "largest_step" not in start or "peak_memory_bytes" not in end:
        return
    planned = workload.from_journal(start)
    sizes = {"": planned}
    if planned.rollouts:
        steps = journal.steps(events)
        longest = max(int(step["completions/max_length"]) for step in steps)
        mean = max(step["completion_tokens"] for step in steps)
        length = planned.length - planned.completion + longest
        labelled = round(planned.batch * mean)
        sizes[" as written"] = replace(planned, completion=longest, length=length, labelled=labelled)
    for name, size in sizes.items():
        result = {"predicted": memory.predict(shape, size).total, "measured": end["peak_memory_bytes"]}
        report(folder.name + name, f"{size.batch}x{size.length}", result)


def alone(**settings: Any) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "one", "--one", json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"skipped": done.stderr.strip().splitlines()[-1]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def report(kind: str, size: str, result: dict[str, Any]) -> None:
    if "skipped" in result:
        predicted = f"{result['predicted'] / 1e9:7.2f} GB" if "predicted" in result else "–"
        print(f"{kind:<16} {size:>8} {predicted:>10} {result['skipped']}", flush=True)
        return
    predicted, measured = result["predicted"], result["measured"]
    held = f", {result['reserved'] / 1e9:.2f} GB reserved" if "reserved" in result else ""
    line = f"{kind:<16} {size:>8} {predicted / 1e9:7.2f} GB {measured / 1e9:7.2f} GB {measured / predicted:6.2f}"
    print(f"{line}  {os.getloadavg()[0]:.1f}{held}", flush=True)


if __name__ == "__main__":
    main()
