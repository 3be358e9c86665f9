"""The runner of benchmarks/gpu, whose worker is a fake that crashes, hangs and fails as it is asked to."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import report, runner
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.gpu.runner import Runner, appender

WORKER = Path(__file__).with_name("fake_gpu_worker.py")


def part(name: str, *, process: str = "", seconds: float = 100.0, needs: tuple[str, ...] = ()) -> Part:
    return Part(name, "right", "none:none", seconds, process or name, needs=needs)


def run(folder: Path, parts: list[Part], *, minutes: float = 10) -> dict[str, dict[str, Any]]:
    """The results by part, read from the file."""
    command = (sys.executable, str(WORKER), str(folder / "started"))
    Runner(appender(folder / "results"), folder / "log", minutes=minutes, command=command).run(parts)
    results = [json.loads(line) for line in (folder / "results").read_text().splitlines()]
    return {result.get("part", "run"): result for result in results}


def test_a_crash_or_a_failure_of_one_part_loses_no_other(tmp_path: Path) -> None:
    shared = [part(name, process="shared") for name in ("one", "crashes", "two", "fails", "three")]
    results = run(tmp_path, shared)
    assert results["run"]["run"]["card"] == "a card"
    assert [results[name]["ok"] for name in ("one", "two", "three")] == [True, True, True]
    assert results["crashes"]["failed"] == "the process ended with status 3"
    assert results["fails"]["failed"] == "ValueError: a reason"


def test_parts_share_a_process_only_where_they_say_so(tmp_path: Path) -> None:
    results = run(tmp_path, [part("one", process="a"), part("two", process="a"), part("three", process="b")])
    assert results["one"]["by"] == results["two"]["by"] != results["three"]["by"]


def test_a_part_without_its_library_is_skipped_with_the_reason(tmp_path: Path) -> None:
    results = run(tmp_path, [part("one", needs=("absent",)), part("two", needs=("present",))])
    assert results["one"]["skipped"] == "not installed here: absent"
    assert results["two"]["ok"]


def test_parts_that_time_does_not_allow_are_stopped_or_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SHORTEST", 0.1)
    parts = [part("one"), part("long", seconds=1e6), part("hangs", seconds=0.1), part("two")]
    results = run(tmp_path, parts, minutes=10)
    assert results["one"]["ok"]
    assert results["two"]["ok"]
    assert results["long"]["skipped"].startswith("expected to take 1000000 s")
    assert results["hangs"]["failed"] == "stopped after 0 s"


def test_a_page_can_be_made_of_what_is_there_at_any_moment() -> None:
    machine = {"card": "NVIDIA H100", "date": "now", "commit": "c", "python": "3.12", "libraries": {"torch": "2"}}
    head = {"run": machine | {"locked": {"torch": "3"}, "tiny": False}, "missing": ["lm_eval"]}
    fast = {
        **{"tokens_per_second": 12000.0, "tokens_per_step": 8192.0, "step_seconds": 0.7, "seconds": 30.0},
        **{"mfu": 0.4, "checkpointing": True, "predicted_bytes": 10e9, "peak_bytes": 12e9},
        **{"measured_over_predicted": 1.2, "reserved_bytes": None},
    }
    right = {"ok": False, "paths": {"sft": {"ok": False, "gradient": 0.5}}, "seconds": 2.0}
    by_theme = {"right": right, "fast": fast}
    results: list[dict[str, Any]] = [head, *({"part": each.name} | by_theme[each.theme] for each in PARTS[:1])]
    results += [{"part": each.name} | by_theme[each.theme] for each in PARTS if each.theme == "fast"]
    results[-1] = {"part": PARTS[-1].name, "failed": "out of\nmemory"}
    for count in range(len(results) + 1):
        page = report.markdown(results[:count])
    assert "# NVIDIA H100" in page
    assert "off: sft" in page
    assert "| 12,000 |" in page
    assert "failed: out of memory" in page
