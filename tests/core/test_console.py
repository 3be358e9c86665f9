import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tunesmith.core import console, fingerprint
from tunesmith.core.errors import DataError


def raising(error: BaseException) -> Callable[[], str]:
    def main() -> str:
        raise error

    return main


def wrapped() -> str:
    try:
        raise OSError(errno.ENOSPC, "No space left on device", "models/base")
    except OSError as error:
        raise RuntimeError("an error of a library") from error


@pytest.fixture(autouse=True)
def warnings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warnings.simplefilter", lambda _: None)


def test_a_stage_that_succeeds_prints_its_closing_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        console.run(lambda: "done")
    assert end.value.code == 0
    assert capsys.readouterr().out == "done\n"


def test_an_error_of_ours_is_printed_without_a_traceback() -> None:
    with pytest.raises(SystemExit) as end:
        console.run(raising(DataError("rows.csv:3: bad", fix="correct it")))
    assert end.value.code == "error: rows.csv:3: bad\n  fix: correct it"


@pytest.mark.parametrize("main", [raising(OSError(errno.ENOSPC, "full", "models/base")), wrapped])
def test_a_full_disk_is_named_even_when_a_library_wraps_the_error(main: Callable[[], str]) -> None:
    with pytest.raises(SystemExit) as end:
        console.run(main)
    assert "the disk is full while writing models/base" in str(end.value.code)


@pytest.mark.parametrize(
    ("error", "program", "says", "fix"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. Of the allocated memory 1 GiB is"),
            ["stages/train_grpo.py", "mine"],
            "train_grpo@mine: CUDA out of memory. Tried to allocate 2 GiB.",
            "grpo.mine: lower batch_size or max_new_tokens or max_prompt_length, or take `weights: qlora`",
        ),
        (
            RuntimeError("CUDA error: out of memory\nCompile with"),
            ["stages/reference.py", "d"],
            "out of memory",
            "dpo.d: ",
        ),
        (MemoryError(), ["stages/evaluate.py"], "evaluate: out of memory", "evaluate.batch_size"),
    ],
)
def test_a_stage_without_enough_memory_names_what_to_lower_and_prints_no_traceback(
    monkeypatch: pytest.MonkeyPatch, error: Exception, program: list[str], says: str, fix: str
) -> None:
    monkeypatch.setattr(fingerprint, "check", lambda stage: None)
    monkeypatch.setattr("sys.argv", program)
    with pytest.raises(SystemExit) as end:
        console.run(raising(error))
    reason, _, advice = str(end.value.code).partition("\n  fix: ")
    assert reason.startswith("error: ")
    assert reason.endswith(says)
    assert fix in advice


def test_an_interrupt_has_its_own_exit_status() -> None:
    with pytest.raises(SystemExit) as end:
        console.run(raising(KeyboardInterrupt()))
    assert end.value.code == 130


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        console.run(raising(ZeroDivisionError()))


@pytest.mark.parametrize("stage", ["train_sft", "evaluate"])
def test_a_stage_with_other_code_than_its_fingerprint_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    begun: list[str] = []
    monkeypatch.setattr("sys.argv", [str(Path("stages") / f"{stage}.py")])
    monkeypatch.setattr(fingerprint, "FOLDER", tmp_path)
    with pytest.raises(SystemExit) as end:
        console.run(lambda: begun.append(stage) or "done")
    assert "is not the code of this fingerprint" in str(end.value.code)
    assert not begun
    (tmp_path / stage).write_text(fingerprint.of_stage(stage))
    with pytest.raises(SystemExit) as end:
        console.run(lambda: "done")
    assert end.value.code == 0


@pytest.mark.parametrize("program", ["stages/fingerprint.py", "tunesmith/runtime/__main__.py"])
def test_programs_that_are_not_fingerprinted_stages_run_without_a_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr("sys.argv", [program])
    monkeypatch.setattr(fingerprint, "FOLDER", tmp_path)
    with pytest.raises(SystemExit) as end:
        console.run(lambda: "done")
    assert end.value.code == 0
