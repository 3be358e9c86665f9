"""The package's requirements: ranges, within which the lock lies. Without the libraries of the extras, the core's
commands work, and the others name the extra that they need.
"""

import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tunesmith.core import console, extras, fingerprint
from tunesmith.core.errors import MissingLibraryError

CORE = ("check", "params", "results", "promote", "lineage", "reproduce", "ui")
"""Commands that need no extra."""
WITHOUT = """
import sys
ABSENT = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "datasets", "gguf", "lm_eval",
          "math_verify", "nltk", "rensa", "phonenumbers", "stdnum",
          "docker", "openai", "ray")  # MLflow brings fastapi, starlette and uvicorn
class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without)
from tunesmith.cli.main import main
main()
"""


def tunesmith(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("data/held_out", "data/tasks"):
        Path(folder).mkdir(parents=True)
    Path("rows.jsonl").write_text("{}\n")
    Path("params.yaml").write_text(
        "data: {mine: {path: rows.jsonl}}\nsft: {mine-lora: {dataset: mine}}\n"
        "evaluate: {suites: {mine: {dataset: mine, verifier: exact}}}\n"
    )


def test_the_core_needs_no_extra(project: None) -> None:
    imports = "; ".join(f"import tunesmith.cli.{name}" for name in CORE)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.replace("main()", imports)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert "models: mine-lora" in tunesmith("check").stdout
    assert "mine-lora" in tunesmith("params", "--all").stdout


@pytest.mark.parametrize(("command", "extra"), [("plan", "train"), ("advise rows.jsonl", "data")])
def test_a_command_names_the_extra_that_it_needs(project: None, command: str, extra: str) -> None:
    done = tunesmith(*command.split())
    assert done.returncode == 1
    assert f"pip install 'tunesmith[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stage_names_the_extra_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> str:
        raise ModuleNotFoundError("No module named 'lm_eval.tasks'", name="lm_eval.tasks")

    monkeypatch.setattr("warnings.simplefilter", lambda _: None)
    with pytest.raises(SystemExit, match=r"lm_eval is not installed\n  fix: pip install 'tunesmith\[eval\]'"):
        console.run(main)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingLibraryError, match="torch is not installed"):
        extras.check("torch")


def test_a_module_that_no_extra_brings_is_a_defect() -> None:
    assert extras.missing(ModuleNotFoundError("No module named 'mine'", name="mine")) is None


def test_pillow_is_found_by_the_name_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "requires", lambda _: ['pillow>=12; extra == "data"'])
    error = extras.missing(ModuleNotFoundError("No module named 'PIL'", name="PIL"))
    assert error is not None
    assert "pip install 'tunesmith[data]'" in str(error)


def test_requirements_are_ranges_within_which_the_pins_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    project, pins = tomllib.loads(Path("pyproject.toml").read_text())["project"], fingerprint._locked()
    pins |= dict(re.findall(r"^([\w.-]+)==(\S+)", Path("requirements-cuda.lock").read_text(), re.MULTILINE))
    lines = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    for needed in map(Requirement, lines):
        if needed.name != extras.PACKAGE:
            assert "==" not in str(needed.specifier), f"{needed} is no range"
        if needed.name not in (extras.PACKAGE, "torchao"):  # which is in no lock (docs/decisions/042)
            assert pins[canonicalize_name(needed.name)] in needed.specifier, f"the pin of {needed} lies outside"
