"""What may pass is waited for, and told once."""

from types import SimpleNamespace

import pytest
from serving_settings import SETTINGS

from tunesmith.core.errors import (
    BaseModelError,
    BusyError,
    IntegrityError,
    RegistryError,
    ServingError,
    UnreachableBaseError,
    UnreachableTrackerError,
)
from tunesmith.serving import retries
from tunesmith.serving.proxy import Proxy
from tunesmith.serving.retries import Attempts, Troubles

PASSING = [
    UnreachableTrackerError("the tracker is down", fix="start it"),
    BusyError("another writes it", fix="wait"),
    UnreachableBaseError("the hub does not answer", fix="check the network"),
    OSError(28, "No space left on device"),
]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def proxy() -> Proxy:
    return Proxy("calculator", None)


@pytest.fixture
def met(proxy: Proxy, said: list[str]) -> Troubles:
    return Troubles(proxy, said.append)


@pytest.mark.parametrize("error", PASSING, ids=[type(error).__name__ for error in PASSING])
def test_what_passes_is_waited_for_and_told_once(
    error: Exception, met: Troubles, proxy: Proxy, said: list[str]
) -> None:
    failures, shown = iter([error, error]), []

    def step() -> str:
        shown.append(list(proxy.retrying))
        for failure in failures:
            raise failure
        return "done"

    assert retries.patiently(step, SETTINGS, met) == "done"
    [line] = said
    assert str(error) in line or repr(error) in line
    assert shown == [[], [line], [line]]
    assert proxy.retrying == []


def test_what_lasts_is_raised_in_the_end(met: Troubles, said: list[str]) -> None:
    def step() -> None:
        raise BusyError("another writes it", fix="wait")

    with pytest.raises(BusyError):
        retries.patiently(step, SETTINGS.model_copy(update={"start_seconds": 0.05}), met)
    assert len(said) == 1


LASTING = [
    IntegrityError("i", fix="f"),
    ServingError("s", fix="f"),
    RegistryError("no such version", fix="f"),
    BaseModelError("another SHA-256", fix="f"),
    ValueError("v"),
]


@pytest.mark.parametrize("error", LASTING, ids=[type(error).__name__ for error in LASTING])
def test_what_will_not_pass_is_raised_at_once(error: Exception, met: Troubles, said: list[str]) -> None:
    def step() -> None:
        raise error

    with pytest.raises(type(error)):
        retries.patiently(step, SETTINGS, met)
    assert said == []


def test_the_same_in_other_numbers_or_by_another_step_is_not_said_again(
    met: Troubles, proxy: Proxy, said: list[str]
) -> None:
    met.met("follow", "broken by <HTTPConnection object at 0x7f3b2bb74ad0>, process 12 writes")
    met.met("follow", "broken by <HTTPConnection object at 0x7f3b2bb75dd0>, process 345 writes")
    met.met("tidy", "broken by <HTTPConnection object at 0x7f3b2bb76110>, process 345 writes")
    assert len(said) == 1
    met.met("follow", "refused")
    assert said[1:] == ["refused"]
    met.over("follow")
    met.over("tidy")
    assert proxy.retrying == []
    met.met("follow", "refused")
    assert said[2:] == ["refused"], "it is another time"


def test_pauses_between_attempts_at_the_same_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(retries, "time", clock)

    def fails() -> None:
        made.append(clock.now)
        raise OSError(28, "No space left on device")

    attempts = Attempts(5)
    for second in range(1000):
        clock.now = float(second)
        with pytest.raises(OSError, match="No space left"):
            attempts.make("second", fails)
    assert made == [0, 5, 15, 35, 75, 155, 315, 615, 915]
    with pytest.raises(OSError, match="No space left"):
        attempts.make("third", fails)
    assert made[9:] == [999], "another thing is tried at once"
    clock.now = 1004.0
    assert attempts.make("third", lambda: "done") == "done"
    with pytest.raises(OSError, match="No space left"):
        attempts.make("third", fails)
    with pytest.raises(OSError, match="No space left"):
        attempts.make("third", fails)
    assert made[10:] == [1004], "after a success it begins anew"
