import threading

import pytest

from tunesmith.cli.doctor import command
from tunesmith.cli.doctor.finding import Finding
from tunesmith.core.errors import ParamsError


def good(name: str) -> Finding:
    return Finding(name, "good", "well")


def test_findings_are_in_the_order_of_the_checks_whichever_ends_first() -> None:
    first = threading.Event()

    def slow() -> Finding:
        assert first.wait(30)
        return good("slow")

    def quick() -> Finding:
        first.set()
        return good("quick")

    assert [finding.name for finding in command.run_checks({"slow": slow, "quick": quick}, 30)] == ["slow", "quick"]


def test_a_check_that_hangs_is_a_bad_finding() -> None:
    release = threading.Event()

    def hangs() -> Finding:
        release.wait(60)
        return good("late")

    hung, fine = command.run_checks({"late": hangs, "fine": lambda: good("fine")}, 0.2)
    release.set()
    assert (hung.name, hung.level, hung.says) == ("late", "bad", "no answer within 0.2 seconds")
    assert fine.level == "good"


def test_an_error_with_a_fix_is_a_bad_finding_with_that_fix() -> None:
    def fails() -> Finding:
        raise ParamsError("params.yaml: not YAML", fix="correct that line")

    [found] = command.run_checks({"params": fails}, 30)
    assert found == Finding("params", "bad", "params.yaml: not YAML", "correct that line")


def test_a_check_that_raises_is_a_bad_finding_and_the_others_go_on() -> None:
    broken, fine = command.run_checks({"broken": lambda: 1 / 0, "fine": lambda: good("fine")}, 30)
    assert (broken.level, broken.says) == ("bad", "could not be checked: ZeroDivisionError('division by zero')")
    assert fine.level == "good"


@pytest.mark.parametrize(("level", "well"), [("good", True), ("warning", True), ("bad", False)])
def test_only_a_bad_finding_fails_and_every_fix_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], level: str, well: bool
) -> None:
    found = Finding("disk", level, "3 GB [red]free[/red]", "free some")
    monkeypatch.setattr(command, "CHECKS", {"disk": lambda: found})
    assert command.run() is well
    assert "disk: 3 GB [red]free[/red]\n    fix: free some" in capsys.readouterr().out
