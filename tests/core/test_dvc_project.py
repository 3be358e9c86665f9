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


def test_the_maker_of_a_file_is_the_stage_that_writes_its_folder() -> None:
    assert dvc_project.maker(KNOWN, Path("data/ready/train.jsonl")) == KNOWN[1]
    assert dvc_project.maker(KNOWN, Path("code.py")) is None
    assert dvc_project.maker(KNOWN, Path("models/bases")) is None


def test_upstream_lists_each_needed_stage_once_and_before_its_readers() -> None:
    order = [stage.target for stage in dvc_project.upstream(KNOWN, KNOWN[0])]
    assert order == ["fetch", "raw.jsonl.dvc", "prepare", "train"]


def test_stages_that_write_into_a_folder_are_upstream_of_its_readers() -> None:
    reader = stage("prepare", "data/raw", "data/ready")
    makers = [stage("demo", "", "data/raw/demo.jsonl"), stage("data/raw/a.dvc", "", "data/raw/a", runs=False)]
    other = stage("other", "", "data/rawer")
    assert dvc_project.upstream([reader, *makers, other], reader) == [*makers, reader]
    assert dvc_project.sources([reader, *makers], [reader, *makers]) == [Path("data/raw")]


def test_sources_are_the_deps_that_no_stage_writes() -> None:
    assert dvc_project.sources(KNOWN, dvc_project.upstream(KNOWN, KNOWN[0])) == [Path("code.py")]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("toy") / "project"
    folder.mkdir()
    return Toy(folder)


def test_stages_include_entries_and_data_under_dvc_add(toy: Toy) -> None:
    stages = {stage.target: stage for stage in dvc_project.stages(toy.folder)}
    assert set(stages) == {"resolve_params", "ask", "train@toy", "evaluate", "data/rows.jsonl.dvc"}
    assert stages["train@toy"].outs == (Path("models/toy"),)
    assert Path("data/rows.jsonl") in stages["train@toy"].deps
    assert [stage.runs for stage in stages.values()].count(False) == 1


def test_a_file_is_found_in_the_cache_by_its_own_hash_or_its_folders(toy: Toy) -> None:
    lock = yaml.safe_load((toy.folder / "dvc.lock").read_text())["stages"]["train@toy"]["outs"][0]
    name = Path("models/toy/adapter_config.json")
    config = dvc_project.cached(toy.folder, f"md5:{lock['md5']}", name)
    assert config is not None
    assert config.read_bytes() == (toy.folder / name).read_bytes()
    rows = yaml.safe_load((toy.folder / "data" / "rows.jsonl.dvc").read_text())["outs"][0]["md5"]
    file = dvc_project.cached(toy.folder, f"md5:{rows}", Path("data/rows.jsonl"))
    assert file is not None
    assert file.read_text() == "rows\n"
    assert dvc_project.cached(toy.folder, f"md5:{lock['md5']}", Path("models/toy/absent")) is None


@pytest.mark.parametrize("digest", [f"md5:{HASH}", f"md5:{HASH}.dir", "md5:../../../../etc/passwd", "sha256:00", ""])
def test_a_hash_that_is_not_cached_or_not_a_hash_finds_nothing(toy: Toy, digest: str) -> None:
    assert dvc_project.cached(toy.folder, digest, Path("x")) is None


def test_a_shared_remote_with_a_relative_address_stays_the_same_place(toy: Toy, tmp_path: Path) -> None:
    (toy.folder.parent / "store").mkdir()
    toy.dvc("remote", "add", "--local", "-d", "team", "../store")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").touch()
    dvc_project.share(toy.folder, tmp_path)
    assert dvc_project.remotes(tmp_path) == {"team": str(toy.folder.parent / "store")}
    assert dvc_project.cache(tmp_path) == toy.folder / ".dvc" / "cache"
    assert dvc_project.remote_exists(toy.folder)


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


def test_all_files_of_an_output_are_files_in_the_cache_or_none(toy: Toy) -> None:
    entry = yaml.safe_load((toy.folder / "dvc.lock").read_text())["stages"]["train@toy"]["outs"][0]
    files = dvc_project.cached_files(toy.folder, entry["md5"])
    assert files is not None
    assert {name: file.read_bytes() for name, file in files.items()} == {
        path.name: path.read_bytes() for path in (toy.folder / "models" / "toy").iterdir()
    }
    away = files["manifest.json"].rename(toy.folder / "away")
    assert dvc_project.cached_files(toy.folder, entry["md5"]) is None
    away.rename(files["manifest.json"])
    rows = yaml.safe_load((toy.folder / "data" / "rows.jsonl.dvc").read_text())["outs"][0]["md5"]
    lone = dvc_project.cached_files(toy.folder, rows)
    assert lone is not None
    assert lone[""].read_text() == "rows\n"
    assert dvc_project.cached_files(toy.folder, HASH) is None
    assert dvc_project.cached_files(toy.folder, f"{HASH}.dir") is None
