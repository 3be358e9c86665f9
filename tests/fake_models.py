"""Models without weights: register, promote and serve them with `fake_engine.py`, for tests."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openai
import yaml
from registered_versions import LOADING, NAME, SIGNING, unprobed
from safetensors.numpy import save_file
from serving_settings import MESSAGES

from tunesmith.core import files, manifest
from tunesmith.registry import promotion, registration
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.runs import Experiment
from tunesmith.serving.supervisor import Supervisor

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
NOISE = {"answers": 100, "differ": 0, "tokens": 1000}
BASE_ANSWERS = {"answers": {f"{n} + {n}?": f"base {n}" for n in range(8)}}
"""Behaviour of an engine that does not apply the adapter."""


@dataclass(frozen=True)
class Adapter:
    """An adapter to register. template: its chat template. base: the content of the base's only file of weights."""

    rank: int = 4
    layers: tuple[str, ...] = ("q_proj",)
    template: str = "{{ messages }}"
    base: str = "base"

    def write(self, folder: Path) -> None:
        """Write its files, and its base in models/ where that is missing."""
        base = folder.parent / self.base
        if not base.exists():
            base.mkdir()
            (base / "config.json").write_text(json.dumps({"name": self.base}))
            layers = ("q_proj", "up_proj", "lm_head", "in_proj")
            save_file({f"layers.0.{name}.weight": np.zeros((2, 2)) for name in layers}, base / "model.safetensors")
            manifest.write(base)
        digest = manifest.read(base).digest
        on = {"model": self.base, "digest": digest, "weights_digest": ""}
        (folder / "lineage.json").write_text(json.dumps({"on": on, "base": on}))
        (folder / "adapter_config.json").write_text(json.dumps({"r": self.rank}))
        (folder / "chat_template.jinja").write_text(self.template)
        tensors = {f"layers.0.{name}.lora_A.weight": np.zeros((self.rank, 2)) for name in self.layers}
        save_file(tensors, folder / "adapter_model.safetensors")


def register(
    registry: Registry, model: str, behaviour: dict[str, Any] | None = None, adapter: Adapter | None = None
) -> str:
    """Register a version whose probes expect answers with the model's name, and return its number.

    behaviour: keys of `fake_engine` that make its engine behave differently. adapter: what it is, if not full weights.
    """
    folder = Path("models") / model
    folder.mkdir(parents=True)
    if adapter:
        adapter.write(folder)
    script = {"answers": {f"{n} + {n}?": f"{model} {n}" for n in range(8)}, "otherwise": model} | (behaviour or {})
    (folder / "answers.json").write_text(json.dumps(script))
    manifest.write(folder)
    probes = [
        {
            "suite": "s",
            "id": str(n),
            "prompt": [{"role": "user", "content": f"{n} + {n}?"}],
            "max_new_tokens": 8,
            "completion": f"{model} {n}",
            "tokens": 3,
            "base": f"base {n}",
        }
        for n in range(8)
    ]
    return registration.register(
        registry,
        NAME,
        Experiment("arithmetic").run(model, model, 0, {}),
        folder,
        loading=LOADING,
        outcome="pass",
        evidence="better",
        files={"probes.json": json.dumps({"probes": probes, "noise": NOISE, "dtype": "float32"})},
        tags={},
        description="d",
        signing=SIGNING,
    )


def promote(registry: Registry, which: str, alias: str = "champion") -> None:
    """Promote a version without probing it."""
    promotion.promote(registry, NAME, which, signing=SIGNING, probe=unprobed, alias=alias)


def register_champion(
    registry: Registry,
    model: str,
    behaviour: dict[str, Any] | None = None,
    adapter: Adapter | None = None,
    alias: str = "champion",
) -> None:
    promote(registry, register(registry, model, behaviour, adapter), alias)


def ask(client: openai.OpenAI, model: str = NAME) -> tuple[str, str | None]:
    """Return the name of the model that answered, and its answer."""
    reply = client.chat.completions.create(model=model, messages=MESSAGES)
    return reply.model, reply.choices[0].message.content


def engine_process(supervisor: Supervisor) -> subprocess.Popen[bytes]:
    assert supervisor.deployment
    return supervisor.deployment.engine.process.process


def edit_params(project: Path, **sections: object) -> None:
    """Replace sections of params.yaml, in one step, since `serve --wait` may be reading the file."""
    document = yaml.safe_load((project / "params.yaml").read_text())
    files.write_text(project / "params.yaml", yaml.safe_dump(document | sections))
