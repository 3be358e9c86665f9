"""vLLM compared with transformers: the number of equal answers, and the time to the first answer.

    python -m benchmarks.engines answers [--prompts 128] [--models sft-lora dpo grpo] [--python PYTHON]
    python -m benchmarks.engines cold-start [--model sft-lora] [--python PYTHON]

Needs the models (`dvc repro`), and vLLM: from `tunesmith engine install`, or that of --python. `answers` asks the
demo's test prompts of every model by each engine, and prints the number of equal answers, both scores, both times, and
how far the engines differ about a model in nats a token. `cold-start` prints the seconds from nothing to the first
answer: of the evaluation of the base and an adapter, against `lm_eval run --model vllm` (which must be installed beside
vLLM), and of `tunesmith serve` with a registered adapter, against `vllm serve`. For the former, params.yaml must name
the same vLLM: `engine: {python: PYTHON}`, `serve: {engine: vllm, max_model_len: 2048}`.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import yaml

from benchmarks import evaluate_vs_lm_eval
from tunesmith.core import ready_rows
from tunesmith.core.ready_rows import Row, Sample
from tunesmith.evaluation import evaluate
from tunesmith.evaluation.engines import served
from tunesmith.evaluation.engines.asked import AskedModel, InProcess
from tunesmith.evaluation.suites import Answers
from tunesmith.models import device, loading
from tunesmith.models.engines import environment
from tunesmith.models.engines.settings import Engine

MODELS, REGISTERED, ROWS = Path("models"), Path("reports/registered"), Path("data/ready/demo/test.jsonl")
MAX_NEW_TOKENS = 32
START_SECONDS = 1200


def rows(count: int) -> list[Row]:
    return ready_rows.read(ROWS)[:count]


def by_transformers(names: list[str], prompts: list[Row]) -> dict[str, list[Sample]]:
    """Samples by model."""
    folders = [MODELS / name for name in names]
    opened_each = loading.open_each(folders, MODELS / "base", device.detect())
    return {folder.name: ask(InProcess(opened, 32), prompts) for folder, opened in opened_each}


def by_vllm(names: list[str], prompts: list[Row], engine: Engine) -> tuple[dict[str, list[Sample]], dict[str, float]]:
    """Samples, and the engines' disagreement in nats a token, by model."""
    vllm_env, profile = environment.find(engine), device.detect()
    assert vllm_env is not None, environment.HOW_TO_INSTALL
    references = served.refer([MODELS / name for name in names], MODELS / "base", profile, prompts, 8)
    samples, disagreements = dict[str, list[Sample]](), dict[str, float]()
    for group in served.groups(names, references):
        with served.serving(group, references, prompts, vllm_env, engine, profile) as proved:
            for each in proved:
                name = each.reference.folder.name
                began = time.monotonic()
                samples[name], disagreements[name] = ask(each.model, prompts), each.disagreement
                print(f"  {name}: answered in {time.monotonic() - began:.1f} s", flush=True)
    return samples, disagreements


def ask(model: AskedModel, prompts: list[Row]) -> list[Sample]:
    suite = Answers(dataset="demo", verifier="number", max_new_tokens=MAX_NEW_TOKENS)
    return evaluate.ask(evaluate.SuiteRows("prompts", suite, prompts), model)


def answers(names: list[str], count: int, engine: Engine) -> None:
    prompts = rows(count)
    began = time.monotonic()
    theirs = by_transformers(names, prompts)
    between = time.monotonic()
    ours, disagreements = by_vllm(names, prompts, engine)
    print(f"transformers {between - began:.0f} s, vLLM {time.monotonic() - between:.0f} s, starts included")
    print(f"load {os.getloadavg()[0]:.1f}; {len(prompts)} prompts")
    print("| model | equal answers | right, transformers | right, vLLM | nats a token |\n|---|---|---|---|---|")
    for name in names:
        pairs = list(zip(theirs[name], ours[name], strict=True))
        equal = sum(one["completion"] == other["completion"] for one, other in pairs)
        right = [sum(sample["score"] for sample in side) for side in (theirs[name], ours[name])]
        print(f"| {name} | {equal} | {right[0]:g} | {right[1]:g} | {disagreements[name]:.3f} |")


def cold_start(name: str, engine: Engine) -> None:
    vllm_env = environment.find(engine)
    assert vllm_env is not None, environment.HOW_TO_INSTALL
    python = str(vllm_env.python)
    sides = {
        "evaluation, ours": lambda: first_answers(name, engine),
        "evaluation, lm_eval --model vllm": lambda: lm_eval(name, python),
        "serving, tunesmith serve": lambda: tunesmith_serve(name),
        "serving, vllm serve": lambda: vllm_serve(name, python),
    }
    for side, measure in sides.items():
        load, began = os.getloadavg()[0], time.monotonic()
        measure()
        print(f"{side}: {time.monotonic() - began:.1f} s (load {load:.1f})", flush=True)


def first_answers(name: str, engine: Engine) -> None:
    command = [sys.executable, "-m", "benchmarks.engines", "answers-by-vllm", "--prompts", "1", "--models", name]
    subprocess.run([*command, *(["--python", str(engine.python)] if engine.python else [])], check=True)


def lm_eval(name: str, python: str) -> None:
    """Evaluate the base and an adapter by lm-eval, one after the other."""
    with tempfile.TemporaryDirectory() as scratch:
        evaluate_vs_lm_eval.write_task(Path(scratch), 1)
        task = yaml.load((Path(scratch) / "prompts.yaml").read_text(), yaml.BaseLoader)
        del task["process_results"]  # it calls our verifiers, which vLLM's environment does not have
        task["metric_list"] = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
        task["generation_kwargs"] = {"do_sample": False, "max_gen_toks": MAX_NEW_TOKENS}
        (Path(scratch) / "prompts.yaml").write_text(yaml.safe_dump(task))
        for adapter in ("", f",enable_lora=True,lora_local_path={MODELS / name},max_lora_rank=16"):
            command = [python, "-m", "lm_eval", "run", "--model", "vllm", "--tasks", "prompts"]
            command += ["--include_path", scratch, "--batch_size", "auto", "--limit", "1"]
            command += ["--model_args", f"pretrained={MODELS / 'base'},dtype=bfloat16,max_model_len=2048{adapter}"]
            subprocess.run(command, check=True, capture_output=True, env=variables())


def tunesmith_serve(name: str) -> None:
    record = json.loads((REGISTERED / name / "registration.json").read_text())
    with started(["tunesmith", "serve", record["version"], "--port", "8123"]):
        first_chat("http://127.0.0.1:8123", None)


def vllm_serve(name: str, python: str) -> None:
    command = [python, "-P", "-m", "vllm.entrypoints.cli.main", "serve", str(MODELS / "base"), "--port", "8124"]
    command += ["--host", "127.0.0.1", "--dtype", "bfloat16", "--max-model-len", "2048", "--enable-lora"]
    with started([*command, "--lora-modules", f"{name}={MODELS / name}"]):
        first_chat("http://127.0.0.1:8124", name)


def first_chat(address: str, model: str | None) -> None:
    """Wait for the first answer to a chat."""
    body = {"messages": [{"role": "user", "content": "What is 12 + 34?"}], "max_tokens": 8, "temperature": 0}
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            named = {"model": model} if model else {}
            reply = httpx2.post(f"{address}/v1/chat/completions", json=body | named, trust_env=False, timeout=60)
            if reply.is_success:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.2)
    sys.exit(f"{address} gave no answer")


@contextmanager
def started(command: list[str]) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=variables(), stdout=log, stderr=log, start_new_session=True)
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def variables() -> dict[str, str]:
    return os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["answers", "cold-start", "answers-by-vllm"])
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--models", nargs="*", default=["sft-lora", "dpo", "grpo"])
    parser.add_argument("--model", default="sft-lora")
    parser.add_argument("--python", type=Path)
    options = parser.parse_args()
    engine, names = Engine(python=options.python), ["base", *options.models]
    match options.what:
        case "answers":
            answers(names, options.prompts, engine)
        case "answers-by-vllm":
            by_vllm(names, rows(options.prompts), engine)
        case _:
            cold_start(options.model, engine)


if __name__ == "__main__":
    main()
