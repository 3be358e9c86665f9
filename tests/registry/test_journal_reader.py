"""A journal that no training writes is refused by its line, within fixed limits of size, whatever a stage wrote."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from mlflow.utils.validation import _validate_metric, path_not_unique

from tunesmith.core import journal
from tunesmith.core.errors import ContainerError
from tunesmith.registry import journal_reader
from tunesmith.registry.journal_reader import JournalReader

START: dict[str, Any] = {"event": "start", "time": 1, "key": "k1", "model": "dpo"}
START |= {"method": "DPO with LoRA", "device": "cpu", "params": {"dpo": {"beta": 0.1}}}
STEP = {"event": "step", "time": 2, "step": 1, "loss": 0.5}
SAMPLE = {"event": "sample", "time": 2, "when": "before", "prompt": [{"role": "user", "content": "1 + 1"}]}
VALIDATION = {"event": "validation", "time": 2, "step": 0, "loss": 0.4, "accuracy": 0.5}
RESUME = {"event": "resume", "time": 2, "step": 1, "exact": True}
END = {"event": "end", "time": 3, "steps": 1, "seconds": 2.5, "costs": {"dpo": 2.5}}


def lines(*events: Any) -> bytes:
    return b"".join(event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n" for event in events)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def read(content: bytes, *model_and_key: str) -> list[journal.Event]:
    reader, events = JournalReader(io.BytesIO(content), *model_and_key), list[journal.Event]()
    while not reader.caught_up:
        events += reader.read()
    return events


def test_a_training_is_read_as_written_without_the_events_that_are_not_published() -> None:
    content = lines(START, SAMPLE, VALIDATION, STEP, RESUME, END)
    assert read(content, "dpo", "k1") == [START, VALIDATION, STEP, END]


def test_a_journal_is_read_as_it_grows_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(lines(START, STEP)[:-5])
    with path.open("rb") as file, path.open("ab") as log:
        reader = JournalReader(file)
        assert reader.read() == [START]
        log.write(lines(STEP)[-5:] + lines(STEP | {"step": 2}))
        log.flush()
        assert [event["step"] for event in reader.read()] == [1, 2]
        assert reader.read() == []
        log.write(lines(END))
        log.flush()
        assert reader.read() == [END]
    assert (reader.start, reader.time, reader.ended, reader.caught_up) == (START, 3, True, True)


def test_a_loss_that_is_not_finite_is_read_as_null() -> None:
    assert read(lines(START, STEP | {"loss": None}))[1]["loss"] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines(START | {"model": "sft-lora"}), "line 1: its model is 'sft-lora', and must be 'dpo'"),
        (lines(START | {"key": "k2"}), "line 1: its key is 'k2', and must be 'k1'"),
        (lines(START | {"key": "' OR tags.`a` = '"}), "line 1: 'key'"),
        (lines(START | {"key": None}), "line 1: 'key'"),
        (lines(START | {"method": "x" * 2000}), "line 1: 'method'"),
        (lines({name: START[name] for name in START if name != "params"}), "line 1: 'params'"),
        (lines(START | {"params": {"model": "sft-lora"}}), r"line 1: 'params\.model'"),
        (lines(START | {"note": "x" * 2**16}), "line 1: has more than 65536 bytes"),
        (lines(START).replace(b"0.1", nested(500)), "line 1: .* maximum validation depth"),
        (lines(START).replace(b"0.1", nested(5000)), "line 1: is not JSON: depth limit"),
        (lines(STEP), "line 1: a journal begins with `start`"),
        (lines(START, START | {"key": "k2"}), "line 2: a journal .* has no other"),
        (lines(START, END, STEP), "line 3: a journal .* closes with `end`"),
        (lines(START, b"\n"), "line 2: is not JSON"),
        (lines(START, b"\0" * 9 + b"\n"), "line 2: is not JSON"),
        (lines(START, b'{"event": "\xff"}\n'), "line 2: is not JSON"),
        (lines(START, []), "line 2: "),
        (lines(START, {"event": ["step"], "time": 1}), "line 2: 'event'"),
        (lines(START, STEP | {"time": 10**15}), "line 2: 'time'"),
        (lines(START, STEP | {"time": -1}), "line 2: 'time'"),
        (lines(START, STEP | {"step": 2**63}), "line 2: 'step'"),
        (lines(START, STEP | {"loss": "1"}), "line 2: 'loss'"),
        (lines(START, STEP | {"loss": {"a": 1}}), "line 2: 'loss'"),
        (lines(START, lines(STEP).replace(b"0.5", b"1e999")), "line 2: is not JSON"),
        (lines(START, lines(STEP).replace(b"0.5", b"9" * 5000)), "line 2: is not JSON"),
        (lines(START, STEP | {"a'b": 1.0}), "line 2: "),
        (lines(START, STEP | {"x" * 300: 1.0}), "line 2: "),
        (lines(START, *(STEP | {f"{n}": 1.0} for n in range(300))), "line 254: .* 256 quantities"),
        (lines(START, END | {f"{n}": n for n in range(300)}), "line 2: .* 256 quantities"),
        (
            lines(START, STEP | {f"s{n}": 1.0 for n in range(200)}, END | {f"e{n}": 1 for n in range(100)}),
            "line 3: steps, validations and end have more than 256 quantities",
        ),
        (
            lines(START, STEP | {f"s{n}": 1.0 for n in range(200)}, VALIDATION | {f"s{n}": 1.0 for n in range(100)}),
            "line 3: .* 256 quantities",
        ),
        (lines(START, VALIDATION | {"step": -1}), "line 2: 'step'"),
        (lines(START, VALIDATION | {"loss": "1"}), "line 2: 'loss'"),
    ],
)
def test_a_line_that_no_training_writes_is_refused_by_its_number(content: bytes, message: str) -> None:
    with pytest.raises(ContainerError, match=f"the journal of dpo is refused: {message}"):
        read(content, "dpo", "k1")


@pytest.mark.parametrize("name", ["a//b", "..", ".", "./x", "a/../b", "a/./b", "a/", "/x", "../x"])
@pytest.mark.parametrize("event", [STEP, END])
def test_a_name_that_the_tracker_would_refuse_is_refused_here(name: str, event: dict[str, Any]) -> None:
    assert path_not_unique(name)
    with pytest.raises(ContainerError, match=r"the journal is refused: line 2: .* the tracker would"):
        read(lines(START, event | {name: 1.0}))


def test_names_that_trainings_log_are_read_and_are_valid_for_the_tracker() -> None:
    """Those of the end with the prefix `training/`."""
    for name in ("rewards/chosen", "eval_loss", "a.b", "n" * 200):
        assert read(lines(START, END | {name: 1.0}))[1][name] == 1.0
        _validate_metric(f"training/{name}", 1.0, 0, 0)


def test_a_refused_start_is_not_kept() -> None:
    reader = JournalReader(io.BytesIO(lines(START | {"key": "k2"}, STEP)), "dpo", "k1")
    with pytest.raises(ContainerError):
        reader.read()
    assert reader.start == {}


def test_an_endless_file_without_lines_is_read_no_further_than_the_limit_of_a_line(tmp_path: Path) -> None:
    with (tmp_path / "j").open("w+b") as file:
        os.truncate(file.fileno(), 2**40)  # holds nothing, and reads as a terabyte
        reader = JournalReader(file)
        with pytest.raises(ContainerError, match="line 1: has more than 4194304 bytes"):
            list(iter(reader.read, None))
        assert file.tell() < 2 * journal_reader.MAX_LINE_BYTES


def test_a_journal_of_more_bytes_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = lines(START, *[STEP] * 10)
    monkeypatch.setattr(journal_reader, "MAX_JOURNAL_BYTES", len(content))
    assert len(read(content)) == 11
    with pytest.raises(ContainerError, match=f"more than {len(content)} bytes"):
        read(content + b" ")
