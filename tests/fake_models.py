"""Models without weights: register, promote and serve them with `fake_engine.py`, for tests."""

import json
import subprocess
from pathlib import Path
from typing import Any

import openai
import yaml
from registered_versions import LOADING, NAME, SIGNING, unprobed
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


def register(registry: Registry, model: str, behaviour: dict[str, Any] | None = None) -> str:
    """Register a version whose probes expect answers with the model's name, and return its number.

    behaviour: keys of `fake_engine` that make its engine behave differently.
    """
    folder = Path("models") / model
    folder.mkdir(parents=True)
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


def promote(registry: Registry, which: str) -> None:
    """Promote a version without probing it."""
    promotion.promote(registry, NAME, which, signing=SIGNING, probe=unprobed)


def register_champion(registry: Registry, model: str, behaviour: dict[str, Any] | None = None) -> None:
    promote(registry, register(registry, model, behaviour))


def ask(client: openai.OpenAI) -> tuple[str, str | None]:
    """Return the name of the model that answered, and its answer."""
    reply = client.chat.completions.create(model=NAME, messages=MESSAGES)
    return reply.model, reply.choices[0].message.content


def engine_process(supervisor: Supervisor) -> subprocess.Popen[bytes]:
    assert supervisor.deployment
    return supervisor.deployment.engine.process


def edit_params(project: Path, **sections: object) -> None:
    """Replace sections of params.yaml, in one step, since `serve --wait` may be reading the file."""
    document = yaml.safe_load((project / "params.yaml").read_text())
    files.write_text(project / "params.yaml", yaml.safe_dump(document | sections))
