from pathlib import Path

import pytest
import yaml
from toy_project import Toy

from tunesmith.core import dvc_project
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import LineageError

HASH = "0123456789abcdef0123456789abcdef"


def stage(target: str, deps: str = "", outs: str = "", *, runs: bool = True) -> Stage:
    return Stage(target, tuple(map(Path, deps.split())), tuple(map(Path, outs.split())), runs)


KNOWN = [
    stage("train", "models/base data/ready/train.jsonl code.py", "models/a"),
    stage("prepare", "raw.jsonl models/base", "data/ready"),
    stage("fetch", "code.py", "models/base"),
    stage("raw.jsonl.dvc", "", "raw.jsonl", runs=False),
    stage("other", "models/a", "models/b"),
]


def test_a_file_is_made_by_the_stage_of_the_folder_it_is_in() -> None:
    assert dvc_project.maker(KNOWN, Path("data/ready/train.jsonl")) == KNOWN[1]
    assert dvc_project.maker(KNOWN, Path("code.py")) is None
    assert dvc_project.maker(KNOWN, Path("models/bases")) is None


def test_what_a_stage_needs_comes_before_it_and_once() -> None:
    order = [stage.target for stage in dvc_project.upstream(KNOWN, KNOWN[0])]
    assert order == ["fetch", "raw.jsonl.dvc", "prepare", "train"]


def test_what_no_stage_makes_is_loose() -> None:
    assert dvc_project.loose(KNOWN, dvc_project.upstream(KNOWN, KNOWN[0])) == [Path("code.py")]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("toy") / "project"
    folder.mkdir()
    return Toy(folder)


def test_stages_are_as_dvc_reads_them_items_and_added_data_included(toy: Toy) -> None:
    found = {stage.target: stage for stage in dvc_project.stages(toy.folder)}
    assert set(found) == {"resolve_params", "ask", "train@toy", "evaluate", "data/rows.jsonl.dvc"}
    assert found["train@toy"].outs == (Path("models/toy"),)
    assert Path("data/rows.jsonl") in found["train@toy"].deps
    assert [stage.runs for stage in found.values()].count(False) == 1


def test_a_file_is_found_in_the_cache_by_its_own_hash_or_its_folders(toy: Toy) -> None:
    lock = yaml.safe_load((toy.folder / "dvc.lock").read_text())["stages"]["train@toy"]["outs"][0]
    name = Path("models/toy/adapter_config.json")
    kept = dvc_project.cached(toy.folder, f"md5:{lock['md5']}", name)
    assert kept is not None
    assert kept.read_bytes() == (toy.folder / name).read_bytes()
    rows = yaml.safe_load((toy.folder / "data" / "rows.jsonl.dvc").read_text())["outs"][0]["md5"]
    found = dvc_project.cached(toy.folder, f"md5:{rows}", Path("data/rows.jsonl"))
    assert found is not None
    assert found.read_text() == "rows\n"
    assert dvc_project.cached(toy.folder, f"md5:{lock['md5']}", Path("models/toy/absent")) is None


@pytest.mark.parametrize("digest", [f"md5:{HASH}", f"md5:{HASH}.dir", "md5:../../../../etc/passwd", "sha256:00", ""])
def test_what_the_cache_does_not_hold_is_not_found(toy: Toy, digest: str) -> None:
    assert dvc_project.cached(toy.folder, digest, Path("x")) is None


def test_a_shared_remote_with_a_relative_address_is_the_same_place(toy: Toy, tmp_path: Path) -> None:
    (toy.folder.parent / "store").mkdir()
    toy.dvc("remote", "add", "--local", "-d", "team", "../store")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").touch()
    dvc_project.share(toy.folder, tmp_path)
    assert dvc_project.remotes(tmp_path) == {"team": str(toy.folder.parent / "store")}
    assert dvc_project.cache(tmp_path) == toy.folder / ".dvc" / "cache"
    assert dvc_project.reach(toy.folder)


def test_a_pipeline_that_dvc_cannot_read_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(LineageError, match="DVC cannot read it"):
        dvc_project.stages(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages: [")
    with pytest.raises(LineageError, match="DVC cannot read it"):
        dvc_project.stages(tmp_path)


def test_the_inputs_of_a_stage_are_its_command_and_the_hashes_of_its_dependencies_now(toy: Toy) -> None:
    entry = yaml.safe_load((toy.folder / "dvc.lock").read_text())["stages"]["train@toy"]
    recorded = {dep["path"]: dep["md5"] for dep in entry["deps"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(toy.folder)
        assert dvc_project.inputs(toy.folder, "train@toy") == ("python -m stages.make", recorded)
        before = (toy.folder / "data" / "more.jsonl").read_text()
        (toy.folder / "data" / "more.jsonl").write_text("other\n")
        assert dvc_project.inputs(toy.folder, "train@toy")[1] != recorded
        (toy.folder / "data" / "more.jsonl").write_text(before)


def test_all_files_of_an_output_are_found_in_the_cache_or_none(toy: Toy) -> None:
    entry = yaml.safe_load((toy.folder / "dvc.lock").read_text())["stages"]["train@toy"]["outs"][0]
    found = dvc_project.cached_files(toy.folder, entry["md5"])
    assert found is not None
    assert {name: file.read_bytes() for name, file in found.items()} == {
        path.name: path.read_bytes() for path in (toy.folder / "models" / "toy").iterdir()
    }
    away = found["manifest.json"].rename(toy.folder / "away")
    assert dvc_project.cached_files(toy.folder, entry["md5"]) is None
    away.rename(found["manifest.json"])
    rows = yaml.safe_load((toy.folder / "data" / "rows.jsonl.dvc").read_text())["outs"][0]["md5"]
    lone = dvc_project.cached_files(toy.folder, rows)
    assert lone is not None
    assert lone[""].read_text() == "rows\n"
    assert dvc_project.cached_files(toy.folder, HASH) is None
    assert dvc_project.cached_files(toy.folder, f"{HASH}.dir") is None
