import errno
from collections.abc import Callable

import pytest

from tunesmith.core import console
from tunesmith.core.errors import DataError


def raising(error: BaseException) -> Callable[[], str]:
    def main() -> str:
        raise error

    return main


def wrapped() -> str:
    try:
        raise OSError(errno.ENOSPC, "No space left on device", "models/base")
    except OSError as error:
        raise RuntimeError("a library says it in its own way") from error


@pytest.fixture(autouse=True)
def warnings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warnings.simplefilter", lambda _: None)


def test_a_stage_that_ends_well_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        console.run(lambda: "done")
    assert end.value.code == 0
    assert capsys.readouterr().out == "done\n"


def test_an_error_of_ours_is_told_without_a_traceback() -> None:
    with pytest.raises(SystemExit) as end:
        console.run(raising(DataError("rows.csv:3: bad", fix="mend it")))
    assert end.value.code == "error: rows.csv:3: bad\n  fix: mend it"


@pytest.mark.parametrize("main", [raising(OSError(errno.ENOSPC, "full", "models/base")), wrapped])
def test_a_full_disk_is_told_even_when_a_library_wraps_it(main: Callable[[], str]) -> None:
    with pytest.raises(SystemExit) as end:
        console.run(main)
    assert "the disk is full while writing models/base" in str(end.value.code)


def test_an_interruption_has_its_own_status() -> None:
    with pytest.raises(SystemExit) as end:
        console.run(raising(KeyboardInterrupt()))
    assert end.value.code == 130


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        console.run(raising(ZeroDivisionError()))
