"""A project in its own repository whose stages take no time: real git, DVC and tunesmith, a model of a few bytes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import warm_python

ROOT = Path(__file__).parents[1]

MAKE = '''
"""Writes models/toy, whose weights follow from the rows, the params and the variable NOISE."""
import json, os, sys, time
from pathlib import Path
from tunesmith.core import files, lineage, manifest
from tunesmith.core.params import read

rows = Path("data/rows.jsonl").read_bytes() + Path("data/more.jsonl").read_bytes()
if os.environ.get("FAIL"):
    sys.exit("error: asked to fail")
if os.environ.get("STARTED"):
    Path(os.environ["STARTED"]).touch()
    time.sleep(600)
with files.new_folder(Path("models/toy")) as out:
    noise = os.environ.get("NOISE", "")
    entry = read()["sft"]["toy"]
    (out / "adapter_model.safetensors").write_bytes(rows + str(entry["lora"]["rank"]).encode() + noise.encode())
    (out / "adapter_config.json").write_text("{}")
    (out / "training.jsonl").write_text(json.dumps({"time": time.time_ns()}))
    origin = {
        "created": str(time.time_ns()),
        "code": lineage.code(),
        "base": {"source": "none", "digest": "b", "weights_digest": "w"},
        "inputs": {},
        "params": {"sft": {"toy": entry | {"seed": 20}}},
        "document": read(),
        "environment": {"lock_sha256": None, "image_digest": None, "python": "3", "libraries": {}},
        "hardware": {"device": os.environ.get("DEVICE", "a CPU x 1, float32")},
        "where": os.getcwd() if noise else "",
    }
    (out / "lineage.json").write_text(json.dumps(origin))
    manifest.write(out)
'''
EVALUATE = '''
"""Scores ten prompts, of which the first SCORES (a variable) are right. The base flips one between two repeats."""
import os, sys
from pathlib import Path
from tunesmith.core import ready_rows

def samples(right):
    return [{"suite": "s", "row": {"id": str(i)}, "score": float(i < right), "status": "scored"} for i in range(10)]

assert Path("data/ready/asked/test.jsonl").exists()
for name in sys.argv[1:]:
    ready_rows.write_jsonl(Path("reports/evaluation", name, "samples.jsonl"), samples(int(os.environ.get("SCORES", 5))))
again = [{**sample, "time": 0, "batch_size": 4} for sample in samples(int(os.environ.get("SCORES", 5)) - 1)]
ready_rows.write_jsonl(Path("reports/evaluation/base/repeats.jsonl"), again)
'''
RESOLVE = '''
"""Writes the effective params of the stage evaluate."""
from tunesmith.core import params, ready_rows

ready_rows.write_json(params.resolved("evaluate"), {"evaluate": params.read()["evaluate"]})
'''
PIPELINE = """
stages:
  resolve_params:
    cmd: python -m stages.resolve_params
    deps: [params.yaml]
    outs: [build/params]
  ask:
    cmd: mkdir -p data/ready/asked && touch data/ready/asked/test.jsonl
    outs: [data/ready/asked]
  train:
    foreach: [toy]
    do:
      cmd: python -m stages.make
      deps: [stages/make.py, data/rows.jsonl, data/more.jsonl, build/params, params.yaml]
      outs: ["models/${item}"]
  evaluate:
    cmd: python -m stages.evaluate base toy other
    deps: [models/toy, data/ready/asked/test.jsonl]
    outs: [reports/evaluation/toy/metrics.json]
"""
PARAMS = """
sft: {toy: {dataset: rows, lora: {rank: 2}}}
evaluate: {suites: {s: {dataset: asked}}}
registry: {experiment: arithmetic, model: calculator}
signing: {kind: key, private: null, trusted: []}
"""


class Toy:
    """The project with its model, and a copy of the model in place of a fetched version."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.original = folder, folder.parent / "original"
        shutil.copytree(ROOT / "tunesmith", folder / "tunesmith", ignore=shutil.ignore_patterns("__pycache__"))
        files = {"stages/make.py": MAKE, "stages/evaluate.py": EVALUATE, "dvc.yaml": PIPELINE}
        files |= {"stages/resolve_params.py": RESOLVE}
        files |= {"params.yaml": PARAMS, "data/rows.jsonl": "rows\n", "data/more.jsonl": "more\n"}
        files |= {".gitignore": "__pycache__/\n/mlflow.db*\ndata/more.jsonl\ndata/ready\nmodels\nreports\nbuild\n"}
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        self.run("git", "init", "-q")
        self.dvc("init", "-q")
        self.dvc("add", "-q", "data/rows.jsonl")
        self.commit("start")
        self.make()

    def make(self) -> None:
        self.dvc("repro", "-q", "train@toy")
        shutil.rmtree(self.original, ignore_errors=True)
        shutil.copytree(self.folder / "models" / "toy", self.original)

    def commit(self, message: str) -> str:
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", message)
        return self.run("git", "rev-parse", "HEAD")

    def dvc(self, *arguments: str) -> str:
        return self.run("dvc", *arguments)

    def run(self, *command: str) -> str:
        environment = os.environ | {
            "PATH": f"{warm_python.folder()}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
        }
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def lineage(self) -> dict[str, Any]:
        lineage: dict[str, Any] = json.loads((self.original / "lineage.json").read_text())
        return lineage

    def worktrees(self) -> list[str]:
        lines = self.run("git", "worktree", "list", "--porcelain").splitlines()
        return [line.removeprefix("worktree ") for line in lines if line.startswith("worktree ")][1:]
