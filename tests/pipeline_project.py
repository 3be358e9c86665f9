"""The project in a folder of its own, with git and DVC, around a tiny base: what `dvc repro` does there, for real."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tunesmith.core import manifest

ROOT = Path(__file__).parents[1]

AUDIT = """
import os, sys
root, log = os.getcwd() + "/", os.environ["AUDIT_LOG"]
following = {"tunesmith.registry.publishing", "tunesmith.runtime"} & set(sys.orig_argv)  # around the stage
descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def hook(event, args):
    if event == "open" and not following and isinstance(args[0], (str, bytes, os.PathLike)) and not args[2] & 3:
        path = os.path.abspath(os.fsdecode(args[0]))
        if path.startswith(root) and not path.endswith(".pyc"):
            os.write(descriptor, f"{os.environ.get('DVC_STAGE', '')}\\t{path[len(root):]}\\n".encode())
sys.addaudithook(hook)
"""
"""A sitecustomize that notes every file of the project that a stage's Python opens for reading."""

TRAINED = ("sft-lora", "sft-qlora", "sft-full", "dpo", "rlhf", "grpo")
RATES = {"lora": 0.05, "qlora": 0.05, "full": 0.01}
ONLINE = {"learning_rate": RATES, "steps": 2, "prompts": 4, "group": 4, "batch_size": 16, "max_prompt_length": 200}
TINY: dict[str, Any] = {
    "demo": {"rows": 60, "pairs": 24, "prompts": 24, "seed": 1},
    "sft": {"learning_rate": RATES, "epochs": 6, "max_length": 160, "probes": 2},
    "lora": {"rank": 2, "alpha": 4},
    "dpo": {"dataset": "tastes", "learning_rate": RATES, "max_length": 200, "batch_size": 2, "probes": 4},
    "reward": {"dataset": "tastes", "learning_rate": RATES, "max_length": 200, "batch_size": 2},
    "rlhf": ONLINE | {"max_kl": 1000.0, "probes": 0},
    "grpo": ONLINE
    | {"dataset": "digits", "steps": 12, "prompts": 2, "group": 8, "probe": 16}
    | {"max_new_tokens": 1, "probes": 0},
    "evaluate": {
        "suites": {
            "arithmetic": {
                **{"kind": "answers", "dataset": "demo", "verifier": "number", "answer_format": None},
                **{"max_new_tokens": 4, "limit": None},
            },
            "preferences": {"kind": "preferences", "dataset": "tastes", "limit": None},
        },
        "noise_batch_size": 5,
    },
    "compare": {"resamples": 200},
    "gate": {"resamples": 1000},
}


def tiny_data(data: dict[str, Any]) -> dict[str, Any]:
    """Few rows, none too long; prompts that a tiny model's digits may answer, and pairs that it can tell apart."""
    limits = {
        "demo": {"train": 30, "validation": 4, "test": 12},
        "demo_pairs": {"train": 12, "validation": 0, "test": 6},
        "demo_prompts": {"train": 24, "validation": 0, "test": 4},
    }
    small = {name: data[name] | {"limit": limit, "max_length": None} for name, limit in limits.items()}
    digits = small["demo_prompts"] | {"path": "data/raw/digits.jsonl"}
    return small | {"digits": digits, "tastes": small["demo_pairs"] | {"path": "data/raw/tastes.jsonl"}}


class Project:
    """A copy of the project in a folder of its own, with git and DVC, and a tiny base."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        for name in ("stages", "tunesmith"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", "params.yaml", ".gitignore", "requirements.lock"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "data" / "held_out", folder / "data" / "held_out")
        site = folder.parent / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(AUDIT)
        self.audit = folder.parent / "audit"
        self.environment = os.environ | {
            "PYTHONPATH": str(site),
            "AUDIT_LOG": str(self.audit),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": "",
            "XDG_CONFIG_HOME": str(folder.parent / "config"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "user.name",
            "GIT_CONFIG_VALUE_0": "t",
            "GIT_CONFIG_KEY_1": "user.email",
            "GIT_CONFIG_VALUE_1": "t@t",
        }
        digest = manifest.folder_digest(base)
        source = {"kind": "folder", "path": str(base), "sha256": digest, "chat_template": None}
        self.edit(base_model=lambda _: source, **{name: lambda old, new=new: old | new for name, new in TINY.items()})
        self.edit(data=tiny_data)
        digits = [{"prompt": f"digit {i}?", "reference": str(1 + i % 2), "verifier": "number"} for i in range(40)]
        tastes = [{"prompt": f"taste {i}?", "chosen": "yes", "rejected": "what a bother"} for i in range(30)]
        (folder / "data" / "raw").mkdir()
        for name, rows in {"digits": digits, "tastes": tastes}.items():
            (folder / "data" / "raw" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["git", "add", "-A"]):
            self.run(*command)
        self.run("git", "commit", "-q", "-m", "start")

    def edit(self, **changes: Any) -> None:
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for section, change in changes.items():
            params[section] = change(params[section])
        path.write_text(yaml.safe_dump(params))

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | environment
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def read(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())

    def stale(self) -> set[str]:
        """The stages that `dvc repro` would run; not those that would follow from what these write."""
        return running(self.run("dvc", "repro", "--dry"))


def running(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(re.findall(r"Running stage '(.*?)'", done.stdout))
