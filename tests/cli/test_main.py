import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tunesmith.cli.main import main

HEAVY = ("torch", "transformers", "mlflow", "dvc", "pandas", "rich", "yaml", "pydantic")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from click.testing import CliRunner; from tunesmith.cli.main import main; "
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not set(HEAVY) & set(loaded)


def test_results_before_a_run_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = CliRunner().invoke(main, ["results"])
    assert outcome.exit_code == 1
    assert "`dvc repro` makes it" in str(outcome.exception) + outcome.output


def test_every_command_explains_itself() -> None:
    assert all(command.help for command in main.commands.values())
