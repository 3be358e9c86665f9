"""Data sets on a hub. One process, whose libraries take the hub's address at their import, runs all the commands."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fake_hub
import pytest
import yaml
from fake_hub import COMMIT, Hub

from tunesmith.cli import hub_data
from tunesmith.core.errors import DataError
from tunesmith.data.dataset import Dataset

ROOT = Path(__file__).parents[2]


def rows(first: int, count: int = 20) -> bytes:
    sums = range(first, first + count)
    return b"".join(
        json.dumps({"question": f"what is {i} + 1", "answer": f"#### {i + 1}"}).encode() + b"\n" for i in sums
    )


CARD = """---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/part-*.jsonl}
  - {split: test, path: main/held.jsonl}
- config_name: socratic
  data_files: socratic/all.jsonl
---
Sums.
"""
REPOSITORIES = {
    "team/sums": {
        "README.md": CARD.encode(),
        "main/part-0.jsonl": rows(0),
        "main/part-1.jsonl": rows(15),
        "main/held.jsonl": rows(100),
        "socratic/all.jsonl": rows(200),
        "extra/a.csv": b"question,answer\n1+1,2\n",
    },
    "team/by-folder": {"data/train-0.jsonl": rows(0), "data/train-1.jsonl": rows(20), "data/test.jsonl": rows(40)},
    "team/one.v2": {"README.md": b"Sums.", "sums.jsonl": rows(0)},
    "team/texts": {"train.txt": b"Once upon a time."},
    "team/gated": {"train.jsonl": rows(0)},
}
COMMANDS = {
    "several configurations": ["hub:team/sums"],
    "configuration": ["hub:team/sums:main", "--write"],
    "other configuration": [f"hub:team/sums@{COMMIT}:socratic", "--write", "--name", "socratic"],
    "split": ["hub:team/sums:main/test", "--write", "--name", "held"],
    "no configuration": ["hub:team/sums:mian/test"],
    "no split": ["hub:team/sums:main/validation"],
    "no file": ["hub:team/sums:main/part-2.jsonl"],
    "no file of the commit": [f"hub:team/sums@{COMMIT}:main/part-2.jsonl"],
    "file": [f"hub:team/sums@{COMMIT}:main/part-0.jsonl", "--write", "--name", "part"],
    "pattern": ["hub:team/sums:main/part-*.jsonl", "--write", "--name", "parts"],
    "folder": ["hub:team/sums:extra"],
    "by the names of folders": ["hub:team/by-folder", "--write"],
    "the split alone": ["hub:team/by-folder:test"],
    "only file": ["hub:team/one.v2", "--write"],
    "name is taken": ["hub:team/one.v2", "--write"],
    "unknown format": ["hub:team/texts"],
    "gated": ["hub:team/gated"],
    "unknown repository": ["hub:team/none"],
    "unknown revision": ["hub:team/sums@v2"],
}
SCRIPT = """
import json, sys
from click.testing import CliRunner
from tunesmith.cli.main import main
def shown(arguments):
    result = CliRunner().invoke(main, ["advise", *arguments])
    return result.output + (repr(result.exception) if not isinstance(result.exception, SystemExit | None) else "")
print(json.dumps({name: shown(arguments) for name, arguments in json.loads(sys.argv[1]).items()}))
"""


def run(folder: Path, commands: dict[str, list[str]], url: str, **variables: str) -> dict[str, str]:
    """What each command prints, in a project in ``folder``."""
    home = {"HF_HOME": str(folder / "home"), "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)],
        cwd=folder,
        env=os.environ | home | {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_PROGRESS_BARS": "1"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return printed


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with fake_hub.running(Hub(REPOSITORIES, frozenset({"team/gated"}))) as hub:
        yield hub


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "params.yaml").write_text("data:\n  mine: {path: mine.jsonl}\n")
    (folder / "data" / "held_out").mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def printed(hub: Hub, folder: Path) -> dict[str, str]:
    return run(folder, COMMANDS, hub.url)


@pytest.fixture(scope="module")
def entries(printed: dict[str, str], folder: Path) -> dict[str, Dataset]:
    written = yaml.safe_load((folder / "params.yaml").read_text())["data"]
    return {name: Dataset.model_validate(values) for name, values in written.items()}


@pytest.mark.parametrize(
    ("command", "choices"),
    [
        ("several configurations", ["has several configurations", f"hub:team/sums@{COMMIT}:main\n", ":socratic\n"]),
        ("no configuration", ["no configuration 'mian'", f"hub:team/sums@{COMMIT}:main\n"]),
        ("no split", ["no split 'validation' in the configuration main", ":main/train\n", ":main/test\n"]),
        ("no file", ["no such file", f"hub:team/sums@{COMMIT}:main/part-1.jsonl\n"]),
        ("no file of the commit", ["no such file", f"/tree/{COMMIT}\n"]),
        ("unknown format", ["its files are not of a format that is read here, such as train.txt", "refs/convert"]),
        ("gated", ["gated: its terms must be accepted", "/datasets/team/gated", "HF_TOKEN"]),
        ("unknown repository", ["no such data set, or a private one", "HF_TOKEN"]),
        ("unknown revision", ["hub:team/sums@v2: no such revision", "name a branch"]),
        ("name is taken", ["data.one_v2 is there already"]),
    ],
)
def test_what_is_not_clear_or_not_there_is_answered_with_what_to_write(
    printed: dict[str, str], command: str, choices: list[str]
) -> None:
    for choice in choices:
        assert choice in printed[command] + "\n"


@pytest.mark.parametrize(
    ("name", "part", "files"),
    [
        ("sums", "main/train", ["main/part-0.jsonl", "main/part-1.jsonl"]),
        ("socratic", "socratic/train", ["socratic/all.jsonl"]),
        ("held", "main/test", ["main/held.jsonl"]),
        ("part", "main/part-0.jsonl", ["main/part-0.jsonl"]),
        ("parts", "main/part-*.jsonl", ["main/part-0.jsonl", "main/part-1.jsonl"]),
        ("by_folder", "default/train", ["data/train-0.jsonl", "data/train-1.jsonl"]),
        ("one_v2", "default/train", ["sums.jsonl"]),
    ],
)
def test_the_files_of_a_split_are_brought_here_with_their_source_at_a_commit(
    entries: dict[str, Dataset], folder: Path, name: str, part: str, files: list[str]
) -> None:
    entry = entries[name]
    repository = {"by_folder": "team/by-folder", "one_v2": "team/one.v2"}.get(name, "team/sums")
    assert entry.source == f"hub:{repository}@{COMMIT}:{part}"
    expected = {file: REPOSITORIES[repository][file] for file in files}
    if len(files) == 1:
        assert entry.path == Path(f"data/raw/{name}.jsonl")
        assert [(folder / entry.path).read_bytes()] == [*expected.values()]
    else:
        assert entry.path == Path(f"data/raw/{name}")
        there = (folder / entry.path).rglob("*.*")
        assert {file.relative_to(folder / entry.path).as_posix(): file.read_bytes() for file in there} == expected


def test_rows_of_shards_are_named_by_shard_and_line(printed: dict[str, str]) -> None:
    assert f"hub:team/sums@{COMMIT}:main/train: 40 rows in 2 files" in printed["configuration"]
    assert "line 1 of main/part-0.jsonl: what is 0 + 1" in printed["configuration"]
    assert (
        "5 × exact duplicate, first in line 1 of main/part-1.jsonl: of line 16 of main/part-0.jsonl"
        in (printed["configuration"])
    )


def test_a_choice_that_was_made_is_printed(printed: dict[str, str]) -> None:
    assert f"note: main is now commit {COMMIT}\n" in printed["configuration"]
    assert "note: split train taken; there are also test\n" in printed["configuration"]
    assert "note: configuration main taken; there are also socratic\n" in printed["configuration"]
    assert "note" not in printed["file"].split("hub:")[0]
    assert f"hub:team/sums@{COMMIT}:extra: 1 rows" in printed["folder"]
    assert f"hub:team/by-folder@{COMMIT}:default/test: 20 rows" in printed["the split alone"]


def test_nothing_but_what_was_chosen_is_downloaded(hub: Hub, printed: dict[str, str]) -> None:
    assert "train.txt" not in hub.downloads
    assert hub.downloads.count("main/part-0.jsonl") == 1


def test_without_the_hub_a_file_at_a_commit_comes_from_its_cache(folder: Path, printed: dict[str, str]) -> None:
    cached, absent = [f"hub:team/sums@{COMMIT}:main/part-0.jsonl"], ["hub:team/sums:main"]
    offline = run(folder, {"cached": cached, "absent": absent}, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert "20 × a prompt with one right answer" in offline["cached"]
    assert "hub:team/sums@main:main: the hub cannot be reached" in offline["absent"]
    assert "download it elsewhere" in offline["absent"]


@pytest.mark.parametrize("text", ["hub:sums", "hub:team/sums:", f"hub:team/sums/more@{COMMIT}", "hub:team/sums@"])
def test_what_is_no_data_set_on_the_hub_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="not a data set on the hub"):
        hub_data.parse(text)
