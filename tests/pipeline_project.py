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
around = [name for name in sys.orig_argv if name.startswith(("tunesmith.registry.publishing", "tunesmith.runtime"))]
descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def hook(event, args):
    if event == "open" and not around and isinstance(args[0], (str, bytes, os.PathLike)) and not args[2] & 3:
        path = os.path.abspath(os.fsdecode(args[0]))
        if path.startswith(root) and not path.endswith(".pyc"):
            os.write(descriptor, f"{os.environ.get('DVC_STAGE', '')}\\t{path[len(root):]}\\n".encode())
sys.addaudithook(hook)
"""
"""A sitecustomize that notes every file of the project that a stage's Python opens for reading."""

LORA = {"rank": 2, "alpha": 4}
LIMITS = {"train": 30, "validation": 4, "test": 12}
ARITHMETIC = {"dataset": "demo", "verifier": "number", "max_new_tokens": 4}
ONE: dict[str, Any] = {
    "demo": {"rows": 60, "open": 1, "pairs": 1, "marks": 1, "prompts": 48, "seed": 1},
    "data": {"demo": {"path": "data/raw/demo.jsonl", "splits": {"validation": 0.05, "test": 0.25}, "limit": LIMITS}},
    "sft": {
        "tuned": {
            **{"dataset": "demo", "lora": LORA, "learning_rate": 0.05, "epochs": 6, "max_length": 160, "probes": 2},
        }
    },
    "evaluate": {"suites": {"arithmetic": ARITHMETIC}, "noise_batch_size": 5},
    "compare": {"resamples": 200},
    "gate": {"resamples": 1000},
    "registry": {"model": "calculator"},
}
"""A project of one model: all else has its default."""

SFT = ONE["sft"]["tuned"]
ADAPTER = {"start": "sft-lora", "lora": LORA, "learning_rate": 0.05}
TASTES = ADAPTER | {"dataset": "tastes", "max_length": 200, "batch_size": 2}
ONLINE = ADAPTER | {"steps": 2, "prompts": 4, "group": 4, "batch_size": 16, "max_prompt_length": 200, "probes": 0}
FEW = {"validation": 0.25, "test": 0.0}
ALL: dict[str, Any] = ONE | {
    "data": {
        "demo": ONE["data"]["demo"] | {"verifier": "number"},
        "tastes": {
            "path": "data/raw/tastes.jsonl",
            "splits": {"validation": 0.25, "test": 0.2},
            "limit": {"train": 12, "validation": 6, "test": 6},
        },
        "thumbs": {"path": "data/raw/thumbs.jsonl", "splits": FEW, "limit": {"train": 24, "validation": 12}},
        "demo_prompts": {
            **{"path": "data/raw/demo_prompts.jsonl", "group": "thing", "splits": FEW},
            "limit": {"train": 24, "validation": 4},
        },
        "digits": {"path": "data/raw/digits.jsonl", "splits": {"validation": 0.0, "test": 0.0}, "limit": {"train": 24}},
    },
    "sft": {
        "sft-lora": SFT,
        "sft-qlora": SFT | {"weights": "qlora"},
        "sft-full": SFT | {"weights": "full", "learning_rate": 0.01},
    },
    "dpo": {"dpo": TASTES | {"probes": 4}},
    "kto": {"kto": TASTES | {"dataset": "thumbs", "probes": 4}},
    "reward": {"reward": TASTES | {"epochs": 4}},
    "rlhf": {
        "rlhf": ONLINE
        | {"dataset": "demo_prompts", "reward": "reward", "verifier": "length", "max_new_tokens": 8, "max_kl": 1000.0}
    },
    "grpo": {
        "grpo": ONLINE
        | {"dataset": "digits", "rewards": {"number": 1.0}, "steps": 12, "prompts": 2, "group": 8, "probe": 16}
        | {"max_new_tokens": 1, "start": "sft-full"},
    },
    "evaluate": {
        "suites": {"arithmetic": ARITHMETIC, "preferences": {"kind": "preferences", "dataset": "tastes"}},
        "noise_batch_size": 5,
    },
    "package": {"merged": {"lora-merged": {"adapter": "sft-lora"}}},
}
"""A project with every method, small enough for a tiny model; digits have no validation rows."""


class Project:
    """A copy of the project in a folder of its own, with git and DVC, and a tiny base."""

    def __init__(self, folder: Path, base: Path, params: dict[str, Any], *programs: Path) -> None:
        """programs: folders of programs that come before those of this Python."""
        self.folder = folder
        for name in ("stages", "tunesmith"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", ".gitignore", "requirements.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        for name in ("held_out", "tasks"):
            shutil.copytree(ROOT / "data" / name, folder / "data" / name)
        (folder / "data" / "ready").mkdir()
        shutil.copy(ROOT / "data" / "ready" / "README.md", folder / "data" / "ready")
        site = folder.parent / f"{folder.name}-site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(AUDIT)
        self.audit = folder.parent / f"{folder.name}-audit"
        self.environment = os.environ | {
            "PYTHONPATH": str(site),
            "AUDIT_LOG": str(self.audit),
            "PATH": ":".join([*map(str, programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "MLFLOW_TRACKING_URI": "",
            "XDG_CONFIG_HOME": str(folder.parent / "config"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "user.name",
            "GIT_CONFIG_VALUE_0": "t",
            "GIT_CONFIG_KEY_1": "user.email",
            "GIT_CONFIG_VALUE_1": "t@t",
        }
        self.params = params | {"base_model": {"path": str(base), "sha256": manifest.folder_digest(base)}}
        digits = [{"prompt": f"digit {i}?", "reference": str(1 + i % 2), "verifier": "number"} for i in range(40)]
        tastes = [{"prompt": f"taste {i}?", "chosen": "yes", "rejected": "what a bother"} for i in range(30)]
        thumbs = [
            {"prompt": f"taste {i}?", "response": "yes" if i % 2 else "what a bother", "thumbs_up": bool(i % 2)}
            for i in range(60)
        ]
        (folder / "data" / "raw").mkdir()
        for name, rows in {"digits": digits, "tastes": tastes, "thumbs": thumbs}.items():
            (folder / "data" / "raw" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.run("git", "init", "-q")
        self.run("dvc", "init", "-q")
        shutil.copy(ROOT / ".dvcignore", folder)
        shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", "start")

    @property
    def params(self) -> dict[str, Any]:
        params: dict[str, Any] = yaml.safe_load((self.folder / "params.yaml").read_text())
        return params

    @params.setter
    def params(self, params: dict[str, Any]) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def put(self, place: str, value: object) -> None:
        """Set the param at a dotted path, or remove it where ``value`` is None."""
        params = part = self.params
        *sections, name = place.split(".")
        for section in sections:
            part = part.setdefault(section, {})
        if value is None:
            del part[name]
        else:
            part[name] = value
        self.params = params

    def append(self, module: str, text: str) -> None:
        """Add text to a module's end."""
        path = self.folder / module
        path.write_text(path.read_text() + text)

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | environment
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def repro(self, *targets: str) -> set[str]:
        """The stages that `dvc repro` ran."""
        return running(self.run("dvc", "repro", *targets))

    def stale(self) -> set[str]:
        """The stages that `dvc repro` would run next, params and code once read; not those that follow from these."""
        self.repro("fingerprint", "resolve_params")
        return running(self.run("dvc", "repro", "--dry"))

    def read(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())


def running(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(re.findall(r"Running stage '(.*?)'", done.stdout))
