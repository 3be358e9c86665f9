import subprocess
import sys
from pathlib import Path

import pytest
import yaml


@pytest.fixture
def dvc_project(tmp_path: Path) -> Path:
    body = {"cmd": 'exec python -m tunesmith.runtime train "${item}"', "outs": [{"models/${item}": {"persist": True}}]}
    stages = {
        "train": {"foreach": ["a", "b"], "do": body},
        "fetch": {"cmd": "exec python -m tunesmith.runtime fetch", "outs": ["x"], "meta": {"network": True}},
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path
