from pathlib import Path

from tunesmith import lineage

LOCK = """
stages:
  prepare:
    outs: [{path: data/ready/demo, hash: md5, md5: fresh.dir}]
  train:
    deps: [{path: data/ready/demo/train.jsonl, hash: md5, md5: stale}]
"""


def test_the_dvc_hash_is_that_of_the_last_output_not_of_an_earlier_use(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(LOCK)
    found = lineage.dvc_hash(Path("data/ready/demo/train.jsonl"), tmp_path / "dvc.lock")
    assert found == {"dvc": "md5:fresh.dir"}


def test_what_dvc_does_not_know_has_no_hash(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(LOCK)
    assert lineage.dvc_hash(Path("elsewhere"), tmp_path / "dvc.lock") == {}
    assert lineage.dvc_hash(Path("elsewhere"), tmp_path / "none") == {}
