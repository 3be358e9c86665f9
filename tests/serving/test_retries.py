"""Transient errors are retried and logged once; other errors are raised at once."""

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
from tunesmith.serving.gateway.proxy import Proxy
from tunesmith.serving.retries import Backoff, TransientErrors

TRANSIENT = [
    UnreachableTrackerError("the tracker is down", fix="start it"),
    BusyError("another writes it", fix="wait"),
    UnreachableBaseError("the hub does not answer", fix="check the network"),
    OSError(28, "No space left on device"),
]


@pytest.fixture
def proxy() -> Proxy:
    return Proxy("calculator", None)


@pytest.fixture
def errors(proxy: Proxy, log: list[str]) -> TransientErrors:
    return TransientErrors(proxy, log.append)


@pytest.mark.parametrize("error", TRANSIENT, ids=[type(error).__name__ for error in TRANSIENT])
def test_a_transient_error_is_retried_and_logged_once(
    error: Exception, errors: TransientErrors, proxy: Proxy, log: list[str]
) -> None:
    failures, shown = iter([error, error]), []

    def step() -> str:
        shown.append(list(proxy.retrying))
        for failure in failures:
            raise failure
        return "done"

    assert retries.retry_transient(step, SETTINGS, errors) == "done"
    [line] = log
    assert str(error) in line or repr(error) in line
    assert shown == [[], [line], [line]]
    assert proxy.retrying == []


def test_a_transient_error_that_lasts_is_raised_in_the_end(errors: TransientErrors, log: list[str]) -> None:
    def step() -> None:
        raise BusyError("another writes it", fix="wait")

    with pytest.raises(BusyError):
        retries.retry_transient(step, SETTINGS.model_copy(update={"start_seconds": 0.05}), errors)
    assert len(log) == 1


PERMANENT = [
    IntegrityError("i", fix="f"),
    ServingError("s", fix="f"),
    RegistryError("no such version", fix="f"),
    BaseModelError("another SHA-256", fix="f"),
    ValueError("v"),
]


@pytest.mark.parametrize("error", PERMANENT, ids=[type(error).__name__ for error in PERMANENT])
def test_a_permanent_error_is_raised_at_once(error: Exception, errors: TransientErrors, log: list[str]) -> None:
    def step() -> None:
        raise error

    with pytest.raises(type(error)):
        retries.retry_transient(step, SETTINGS, errors)
    assert log == []


def test_the_same_error_with_other_numbers_or_in_another_step_is_not_logged_again(
    errors: TransientErrors, proxy: Proxy, log: list[str]
) -> None:
    errors.report("follow", "broken by <HTTPConnection object at 0x7f3b2bb74ad0>, process 12 writes")
    errors.report("follow", "broken by <HTTPConnection object at 0x7f3b2bb75dd0>, process 345 writes")
    errors.report("prune", "broken by <HTTPConnection object at 0x7f3b2bb76110>, process 345 writes")
    assert len(log) == 1
    errors.report("follow", "refused")
    assert log[1:] == ["refused"]
    errors.resolve("follow")
    errors.resolve("prune")
    assert proxy.retrying == []
    errors.report("follow", "refused")
    assert log[2:] == ["refused"], "the error was resolved in between"


def test_pauses_between_attempts_at_one_key_double_up_to_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[float] = []
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(retries, "time", clock)
    backoff = Backoff(5)

    def attempt(key: str) -> None:
        with backoff.attempt(key):
            attempts.append(clock.now)
            raise OSError(28, "No space left on device")

    for second in range(1000):
        clock.now = float(second)
        with pytest.raises(OSError, match="No space left"):
            attempt("second")
    assert attempts == [0, 5, 15, 35, 75, 155, 315, 615, 915]
    with pytest.raises(OSError, match="No space left"):
        attempt("third")
    assert attempts[9:] == [999], "another key is tried at once"
    clock.now = 1004.0
    with backoff.attempt("third"):
        pass
    with pytest.raises(OSError, match="No space left"):
        attempt("third")
    with pytest.raises(OSError, match="No space left"):
        attempt("third")
    assert attempts[10:] == [1004], "a success resets the pause"
