import copy
from typing import Any

from lineages import ORIGIN

from tunesmith.core.lineage import Lineage
from tunesmith.reports import facts
from tunesmith.reports.facts import Facts

METRICS: Any = {"time": 1_767_323_045_000, "model_digest": "f" * 64, "dtype": "bfloat16"}
BASE: Lineage = {"source": "hub Qwen/Qwen3-8B@9c92…"}


def collected(**lineages: dict[str, Any]) -> Facts:
    return facts.collect(BASE, lineages, [METRICS, METRICS])  # type: ignore


def test_a_summary_names_base_data_code_hardware_and_software_once() -> None:
    summary = dict(facts.summary(collected(one=ORIGIN, two=ORIGIN)))
    assert summary == {
        "base": ["hub Qwen/Qwen3-8B@9c92…", f"manifest {'f' * 12}"],
        "trained on": ["data/ready/demo/train.jsonl: 1,384 rows, SHA-256 rows"],
        "code": [f"commit {'c' * 12}"],
        "hardware": ["a CPU x 2, float32, x86_64, Linux"],
        "software": ["python 3.11, torch 2.13"],
        "trained": ["2026-01-02"],
        "evaluated": ["2026-01-02 03:04 UTC, in bfloat16"],
    }


def test_the_machines_that_evaluated_are_named_where_reports_name_them() -> None:
    metrics = [METRICS, METRICS | {"device": "NVIDIA L4"}, METRICS | {"device": "NVIDIA L4"}]
    about = facts.collect(BASE, {}, metrics)
    assert dict(facts.summary(about))["evaluated"] == ["2026-01-02 03:04 UTC, in bfloat16", "on NVIDIA L4"]


def test_models_that_differ_in_a_fact_are_told_apart() -> None:
    other = copy.deepcopy(ORIGIN)
    other["code"] = {"commit": "d" * 40, "clean": False}
    other["created"] = "2026-02-03T00:00:00+00:00"
    summary = dict(facts.summary(collected(one=ORIGIN, two=other)))
    assert summary["code"] == [f"commit {'c' * 12}", f"commit {'d' * 12}, with changes that were not committed"]
    assert summary["trained"] == ["2026-01-02 to 2026-02-03"]


def test_an_installed_package_is_named_with_its_version() -> None:
    assert facts.code({"commit": None, "clean": None, "package": {"version": "0.3", "sha256": "a" * 64}}) == (
        "no git commit, tunesmith 0.3"
    )


def test_a_lineage_that_says_nothing_leaves_its_facts_out() -> None:
    assert set(dict(facts.summary(collected(old={})))) == {"base", "code", "evaluated"}
