"""The stage that makes one data set of several, on ready rows of a tiny base."""

import json
from pathlib import Path
from typing import Any

import pytest

from stages import mix
from tunesmith.core import layout, manifest, params, ready_rows
from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import Row
from tunesmith.training import spec


def row(name: str, number: int) -> Row:
    return {
        "id": f"{name}-{number}",
        "prompt": [{"role": "user", "content": f"{name} {number}"}],
        "completion": [{"role": "assistant", "content": "one " * (5 if name == "long" else 1)}],
    }


def write_ready(name: str, **splits: list[Row]) -> None:
    digests = {}
    for split in ("train", "validation", "test"):
        path = layout.split(name, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        ready_rows.write_jsonl(path, splits.get(split, []))
        digests[split] = manifest.file_digest(path)
    layout.DATA_REPORTS.mkdir(parents=True, exist_ok=True)
    ready_rows.write_json(layout.DATA_REPORTS / f"{name}.json", {"digests": digests})


@pytest.fixture
def folder(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    layout.MODELS.mkdir()
    layout.BASE.symlink_to(tiny_base)
    write_ready("short", train=[row("short", n) for n in range(40)], test=[row("short", n) for n in range(40, 44)])
    write_ready("long", train=[row("long", n) for n in range(40)], validation=[row("long", 50)])
    return tmp_path


def mixed(**changes: Any) -> dict[str, Any]:
    values = {"datasets": [{"name": "short", "weight": 1}, {"name": "long", "weight": 1}], **changes}
    path = params.resolved("mix", "both")
    path.parent.mkdir(parents=True, exist_ok=True)
    ready_rows.write_json(path, {"mixtures": {"both": values}})
    print(mix.main("both"))
    report = json.loads((layout.MIXTURE_REPORTS / "both.json").read_bytes())
    return dict(report["given"])


def test_tokens_are_shared_out_and_the_report_says_what_each_data_set_gave(folder: Path) -> None:
    given = mixed(by="tokens")
    tokens = given["short"]["tokens"], given["long"]["tokens"]
    assert tokens[0] == pytest.approx(tokens[1], abs=20)
    assert given["short"]["rows"] > given["long"]["rows"]
    assert given["short"]["epochs"] == 1
    train = ready_rows.read(layout.split("both", "train"))
    by_dataset = spec.trained(train, [1] * len(train))
    assert {name: part["rows"] for name, part in by_dataset.items()} == {
        name: part["rows"] for name, part in given.items()
    }
    assert [one["id"] for one in ready_rows.read(layout.split("both", "validation"))] == ["long-50"]
    assert len(ready_rows.read(layout.split("both", "test"))) == 4


def test_a_row_that_another_data_set_tests_on_is_not_trained(folder: Path) -> None:
    write_ready("long", train=[row("long", 1), row("short", 41)])
    given = mixed(repeat=True)
    assert (given["long"]["available"], given["long"]["left_out"]) == (1, 1)
    assert (given["short"]["rows"], given["long"]["rows"]) == (40, 40)
    ids = {one["id"] for one in ready_rows.read(layout.split("both", "train"))}
    assert len(ids) == 80
    assert "short-41" not in ids


def test_rows_other_than_their_report_describes_are_refused(folder: Path) -> None:
    ready_rows.write_jsonl(layout.split("long", "train"), [row("long", 1)])
    with pytest.raises(DataError, match=r"not the file that reports/data/long\.json describes"):
        mixed()
