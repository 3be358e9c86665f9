"""An evaluation in shares: every model once, each share with what it needs, and in the end one process's reports."""

import json
from pathlib import Path

import pytest

from tunesmith.core import lineage, ready_rows
from tunesmith.core.dvc_store import Digest
from tunesmith.runtime.cluster import evaluation_shares as shares

NAMES = ["base", "lora", "full", "on-full", "dpo"]
DIGEST = Digest("0" * 32, 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with adapters on the base, and one on a model of full weights."""
    for name, on in (("lora", "base"), ("full", None), ("on-full", "full"), ("dpo", "base")):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        origin = {"on": {"model": on, "digest": "", "weights_digest": ""}} if on else {}
        (folder / lineage.NAME).write_text(json.dumps(origin))
    ready_rows.write_json(tmp_path / "build/params/evaluate.json", {"models": NAMES[1:]})
    return tmp_path


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_every_model_is_in_one_share_and_those_on_the_same_weights_lie_together(root: Path, count: int) -> None:
    assert shares.models(root) == NAMES
    divided = shares.divide(NAMES, root, count)
    assert [name for share in divided for name in share] == ["base", "lora", "dpo", "full", "on-full"]
    assert len(divided) == min(count, len(NAMES))
    assert max(map(len, divided)) - min(map(len, divided)) <= 1


def test_a_share_brings_its_models_what_they_are_loaded_on_and_their_reports(root: Path) -> None:
    tree = {f"models/{name}/weights": DIGEST for name in NAMES} | {
        "models/README.md": DIGEST,
        "data/ready/demo/test.jsonl": DIGEST,
        "reports/metrics.json": DIGEST,
        "models/lora/adapter_config.json": DIGEST,  # whether vLLM can serve all models is seen from these
        "reports/evaluation/baseline/metrics.json": DIGEST,
        "data/baseline/answers.jsonl": DIGEST,
        "reports/evaluation/dpo/metrics.json": DIGEST,
        "reports/evaluation/on-full/metrics.json": DIGEST,
    }
    others = {"models/base/weights", "models/README.md", "data/ready/demo/test.jsonl"}
    others |= {"models/lora/adapter_config.json"}
    adapter = {"models/full/weights", "models/on-full/weights", "reports/evaluation/on-full/metrics.json"}
    assert set(shares.inputs(["on-full"], tree, root)) == others | adapter
    alone = {"models/dpo/weights", "reports/evaluation/dpo/metrics.json"}
    assert set(shares.inputs(["dpo"], tree, root)) == others | alone
    hosted = {"reports/evaluation/baseline/metrics.json", "data/baseline/answers.jsonl"}
    assert set(shares.inputs(["base"], tree, root)) == others | hosted


def test_the_scores_are_in_the_order_of_one_process() -> None:
    parts = [b'{"base": 0.1, "dpo": 0.3}', b'{"lora": 0.2}']
    assert shares.scores(parts, ["base", "lora", "dpo"]) == b'{\n  "base": 0.1,\n  "lora": 0.2,\n  "dpo": 0.3\n}\n'


def test_a_report_that_two_shares_made_counts_once_and_scores_are_merged_apart() -> None:
    other = Digest("1" * 32, 1)
    first = {"reports/evaluation/baseline/metrics.json": DIGEST, shares.SCORES: DIGEST}
    second = {"reports/evaluation/baseline/metrics.json": other, "reports/evaluation/a/metrics.json": other}
    assert shares.merge([first, second]) == {
        "reports/evaluation/baseline/metrics.json": DIGEST,
        "reports/evaluation/a/metrics.json": other,
    }
