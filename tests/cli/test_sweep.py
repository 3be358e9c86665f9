import signal

import pytest

from tunesmith.cli import sweep


def test_a_second_request_to_end_does_not_break_off_the_ending_of_trials() -> None:
    before = signal.getsignal(signal.SIGINT)
    ended = []

    def run() -> None:
        with sweep.interruptible():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                for number in sweep.ENDS:
                    signal.raise_signal(number)
                    ended.append(number)

    with pytest.raises(SystemExit) as exited:
        run()
    assert ended == [*sweep.ENDS]
    assert exited.value.code == 130
    assert signal.getsignal(signal.SIGINT) is before
