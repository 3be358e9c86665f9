"""Evaluation speed against lm-eval's command line: the base and adapters on the same prompts, in one run.

    python -m benchmarks.evaluate_vs_lm_eval [--prompts 200] [--models sft-lora dpo grpo] [--repeats 1]

Needs the models (`dvc repro`). Ours is one process that answers and grades for all models, as the stage `evaluate`
does. lm-eval's is `lm-eval run` once for each model, with the prompts as a local task, and the same batch size, dtype,
limits and verifier; `default` is the same with lm-eval's default batch size of 1.

The base's answers must be equal. Adapters have the dtype of the weights under them here, as in most servers, and
float32 in lm-eval, so that in bfloat16 a few of their answers differ.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODELS, ROWS = Path("models"), Path("data/ready/demo/train.jsonl")
BATCH_SIZE, MAX_NEW_TOKENS = 32, 32
SIDES = ("ours", "lm-eval", "default")
TASK = {
    "task": "prompts",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{prompt}}",
    "doc_to_target": "{{reference}}",
    "metric_list": [{"metric": "score", "aggregation": "mean", "higher_is_better": True}],
}
GRADER = """
from tunesmith.verifiers.catalog import verify

def grade(doc, results):
    return {"score": verify("number", results[0], {"reference": doc["reference"]}).score}
"""


def prompts(count: int) -> list[dict[str, Any]]:
    from tunesmith.core import ready_rows

    return ready_rows.read(ROWS)[:count]


def ours(names: list[str], count: int) -> dict[str, list[str]]:
    """Answers by model, in this process."""
    from tunesmith.evaluation import evaluate
    from tunesmith.evaluation.engines.asked import InProcess
    from tunesmith.evaluation.suites import Answers
    from tunesmith.models import device, loading

    suite = Answers(
        kind="answers", dataset="demo", verifier="number", answer_format=None, max_new_tokens=MAX_NEW_TOKENS, limit=None
    )
    rows = evaluate.SuiteRows("prompts", suite, prompts(count))
    folders = [MODELS / name for name in names]
    return {
        folder.name: [sample["completion"] for sample in evaluate.ask(rows, InProcess(opened, BATCH_SIZE))]
        for folder, opened in loading.open_each(folders, MODELS / "base", device.detect())
    }


def write_task(folder: Path, count: int) -> None:
    """Write the rendered prompts as a task of lm-eval."""
    import yaml
    from transformers import AutoTokenizer

    from tunesmith.core import ready_rows
    from tunesmith.models import chat

    tokenizer = AutoTokenizer.from_pretrained(MODELS / "base")
    docs = [
        {"prompt": chat.render_prompt(tokenizer, row["prompt"]), "reference": ready_rows.reference(row)}
        for row in prompts(count)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    (folder / "grader.py").write_text(GRADER)
    settings = {"do_sample": False, "max_gen_toks": MAX_NEW_TOKENS, "until": [tokenizer.eos_token]}
    files = {"data_files": {"test": str(folder / "rows.jsonl")}, "cache_dir": str(folder / "cache")}
    text = yaml.safe_dump(TASK | {"dataset_kwargs": files, "generation_kwargs": settings})
    (folder / "prompts.yaml").write_text(f"{text}process_results: !function grader.grade\n")


def lm_eval(name: str, folder: Path, batch_size: int) -> list[str]:
    """A model's answers by lm-eval's command line."""
    from tunesmith.models import device

    profile = device.detect()
    dtype = str(profile.dtype).removeprefix("torch.")
    adapter = "" if name == "base" else f",peft={MODELS / name}"
    out = folder / f"{name}-{batch_size}"
    program = Path(sys.executable).with_name("lm-eval")
    command = [str(program), "run", "--model", "hf", "--tasks", "prompts", "--include_path", str(folder)]
    command += ["--model_args", f"pretrained={MODELS / 'base'},dtype={dtype}{adapter}", "--device", profile.device]
    command += ["--batch_size", str(batch_size), "--log_samples", "--output_path", str(out)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    [samples] = out.rglob("samples_*.jsonl")
    lines = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda sample: int(sample["doc_id"]))
    return [line["filtered_resps"][0] for line in lines]


def timed(side: str, names: list[str], count: int, folder: Path) -> tuple[float, dict[str, list[str]]]:
    """Seconds, start-up included, and answers by model."""
    began = time.monotonic()
    if side == "ours":
        command = [sys.executable, "-m", "benchmarks.evaluate_vs_lm_eval", "--prompts", str(count), "--models"]
        done = subprocess.run([*command, *names[1:], "--ours"], check=True, stdout=subprocess.PIPE, text=True)
        answers = json.loads(done.stdout.splitlines()[-1])
    else:
        answers = {name: lm_eval(name, folder, 1 if side == "default" else BATCH_SIZE) for name in names}
    return time.monotonic() - began, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--models", nargs="+", default=["sft-lora", "dpo", "grpo"], help="adapters, beside the base")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--sides", nargs="+", default=["ours", "lm-eval"], choices=SIDES)
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = ["base", *options.models]
    if options.ours:
        print(json.dumps(ours(names, options.prompts)))
        return
    seconds: dict[str, list[float]] = {side: [] for side in options.sides}
    answers: dict[str, dict[str, list[str]]] = {}
    for _ in range(options.repeats):
        for side in options.sides:
            with tempfile.TemporaryDirectory() as scratch:
                write_task(Path(scratch), options.prompts)
                took, answers[side] = timed(side, names, options.prompts, Path(scratch))
            seconds[side].append(took)
            print(f"{side:8} {took:6.1f} s, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    print_table(seconds, answers, options.prompts)


def print_table(seconds: dict[str, list[float]], answers: dict[str, dict[str, list[str]]], count: int) -> None:
    from tunesmith.verifiers import catalog

    rows = prompts(count)
    medians = {side: statistics.median(took) for side, took in seconds.items()}
    print(f"{len(answers['ours'])} models on {count} prompts, medians of {len(seconds['ours'])}")
    for side, median in medians.items():
        scores = {
            name: sum(catalog.verify("number", text, row).score for text, row in zip(texts, rows, strict=True))
            for name, texts in answers[side].items()
        }
        same = [
            sum(a == b for a, b in zip(texts, answers["ours"][name], strict=True))
            for name, texts in answers[side].items()
        ]
        right = ", ".join(f"{name} {score:g}" for name, score in scores.items())
        print(
            f"{side:8} {median:6.1f} s, {median / medians['ours']:.2f} times ours; right: {right}; same answers {same}"
        )


if __name__ == "__main__":
    main()
