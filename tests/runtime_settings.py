"""A stage, and the section `runtime` with which a test runs it."""

from pathlib import Path
from typing import Any

import yaml

from tunesmith.core.dvc_project import Stage
from tunesmith.runtime import settings

DIGEST = "sha256:" + "a" * 64
DEFAULTS: dict[str, Any] = settings.Runtime().model_dump(mode="json")
STAGE = Stage("train@x", (), (Path("models/x"),), runs=True, command='exec python -m tunesmith.runtime train "x"')


def runtime(**changes: Any) -> settings.Runtime:
    return settings.Runtime.model_validate(DEFAULTS | {"engine": "docker", "image": DIGEST} | changes)


def write_params(folder: Path, **changes: Any) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump({"runtime": DEFAULTS | changes}))
    return path
