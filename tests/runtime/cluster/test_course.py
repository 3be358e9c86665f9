"""Home's end of a job: output, one journal an attempt, the first failure's reason, and a checkpoint to go on from."""

import subprocess
import sys
from pathlib import Path

import pytest
from runtime.cluster.jobs import RUN

from tunesmith.core import layout
from tunesmith.core.dvc_project import Stage
from tunesmith.core.dvc_store import Address, Digest, Store, Tree, md5, plain_tree
from tunesmith.core.errors import BusyError, ClusterError
from tunesmith.runtime import finished_runs
from tunesmith.runtime.cluster import outcome
from tunesmith.runtime.cluster.course import CHECKPOINTS, Course
from tunesmith.runtime.cluster.evaluation_shares import SCORES
from tunesmith.runtime.cluster.job import Attempt, Done, Fetched, Job, Lines, Note, Output, Saved
from tunesmith.runtime.cluster.outcome import Travelled
from tunesmith.runtime.staging import Staging

TRAINING = Stage("train_sft@x", (), (Path("models/x"),), runs=True)
EVALUATION = Stage("evaluate", (), (Path("reports/evaluation"), Path(SCORES)), runs=True)
SECOND = "00000000-0000-4000-8000-000000000002"
FILES: Tree = {"build/checkpoints/host/x/k/step-00000004/optimizer.pt": Digest("0" * 32, 8)}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(layout.RERUN_VARIABLE, "1")  # nothing is published
    monkeypatch.setattr(finished_runs, "inputs", lambda root: "inputs")
    return tmp_path


def course(root: Path) -> Course:
    return Course(Staging(root, TRAINING, contained=False), "x")


def test_output_comes_out_where_the_stage_put_it(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    course(root).take([Output(1, b"a line\n"), Output(2, b"\rbar 50%"), Note("note: slow"), Fetched(3)])
    assert tuple(capfd.readouterr()) == ("a line\n", "\rbar 50%note: slow\n")


def test_each_attempt_has_a_journal_of_its_own_under_its_own_key(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    of_x = course(root)
    of_x.take([Attempt(RUN), Lines(RUN, b"1\n"), Lines(RUN, b"2\n")])
    assert of_x.journal.read_bytes() == b"1\n2\n"
    assert capfd.readouterr().err == ""
    of_x.take([Attempt(SECOND, ("10.0.0.8",), 1), Lines(RUN, b"late\n"), Lines(SECOND, b"1\n")])
    assert of_x.journal.read_bytes() == b"1\n"
    assert (of_x.staging.run, of_x.restarts) == (SECOND, 1)
    assert "a worker was lost; x goes on from the checkpoint of step 1 on 10.0.0.8" in capfd.readouterr().err
    of_x.close(well=True)


def test_the_next_repro_goes_on_from_the_last_checkpoint_of_the_same_inputs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = course(root)
    saved = Saved(first.saved().part, 4, FILES)
    assert first.saved() == Saved(f"checkpoints/{first.staging.run}")
    first.take([saved])
    assert course(root).saved() == saved
    monkeypatch.setattr(finished_runs, "inputs", lambda root: "other inputs")
    assert course(root).saved().files == {}
    monkeypatch.setattr(finished_runs, "inputs", lambda root: "inputs")
    first.forget()
    assert not list((root / CHECKPOINTS / "x").iterdir())


def test_a_training_that_gave_its_checkpoints_up_begins_anew(root: Path) -> None:
    of_x = course(root)
    of_x.take([Saved("checkpoints/a", 4, FILES), Saved("checkpoints/a")])
    assert course(root).saved().files == {}


def test_the_first_failed_rank_is_the_reason_that_is_shown(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    of_x = course(root)
    of_x.take([Done(1, {}, 0, 3, "error: no rows\n"), Done(1, {}, 0, 1, "connection closed by peer\n")])
    assert capfd.readouterr().err == "rank 3: error: no rows\n"
    assert of_x.failed is not None
    assert of_x.failed.rank == 3
    assert of_x.ended is None


def test_an_error_of_our_own_is_shown_where_the_first_rank_only_lost_the_others(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    of_x = course(root)
    of_x.take([Done(1, {}), Done(1, {}, 0, 2, "connection closed by peer\n")])
    of_x.take([Done(1, {}, 0, 1, "step\nerror: no rows\n"), Done(1, {}, 0, 3, "error: no rows\n")])
    assert capfd.readouterr().err == "rank 1: step\nerror: no rows\n"
    assert of_x.failed == Done(1, {})


def test_the_part_of_the_store_that_is_removed_in_the_end_is_the_one_that_home_chose(root: Path) -> None:
    of_x = course(root)
    part = of_x.saved().part
    of_x.take([Attempt(SECOND), Saved("../../..", 4, FILES)])
    of_x.close(well=False)
    assert course(root).saved() == Saved(part, 4, FILES)


def test_the_same_training_does_not_run_twice_at_once(root: Path) -> None:
    with course(root).alone():
        other = course(root)
        with pytest.raises(BusyError, match="x: the same training runs already, here or in an experiment"):
            other.alone().__enter__()
    with other.alone():
        pass


def test_a_training_begins_anew_where_the_store_has_lost_its_checkpoint(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    of_x, store = course(root), Store(Address(str(root / "shared")))
    part = of_x.saved().part
    (root / "optimizer.pt").write_bytes(b"8 bytes.")
    digest = Digest(md5(root / "optimizer.pt"), 8)
    saved = Saved(part, 4, {"build/checkpoints/host/x/k/step-00000004/optimizer.pt": digest})
    Store(store.address, part).put({digest: root / "optimizer.pt"})
    of_x.take([saved])
    assert course(root).still_saved(store) == saved
    Store(store.address, part).remove()
    again = course(root)
    assert again.still_saved(store) == Saved(f"checkpoints/{again.staging.run}")
    assert "the checkpoint of step 4 is not in" in capfd.readouterr().err
    assert again.record is not None
    assert not again.record.exists()


def shares(root: Path) -> tuple[Job, Store, list[Done]]:
    """Two shares of an evaluation whose outputs are in a store; the report of `kept` was there before."""
    from runtime.cluster.jobs import job

    small = job(root, "", inputs={"reports/evaluation/kept/metrics.json": "kept"})
    small = Job(**{**vars(small), "outs": tuple(out.as_posix() for out in EVALUATION.outs)})
    store, parts = Store(Address(str(root / "shared"))), []
    for number, (names, scores) in enumerate([(["kept", "a"], '{"kept": 0.5, "a": 0.25}'), (["b"], '{"b": 1.0}')]):
        for name in names:
            path = root / f"{number}/reports/evaluation/{name}/metrics.json"
            path.parent.mkdir(parents=True)
            path.write_text(name)
        (root / f"{number}" / SCORES).write_text(scores)
        tree = plain_tree(root / f"{number}", [Path("reports")])
        sent = store.put({digest: root / f"{number}" / name for name, digest in tree.items()})
        parts.append(Done(0, tree, sent))
    return small, store, parts


def test_the_reports_of_all_shares_replace_those_that_were_here(root: Path) -> None:
    (root / "reports/evaluation/gone").mkdir(parents=True)
    (root / "reports/evaluation/gone/metrics.json").write_text("of a model that was removed")
    small, store, parts = shares(root)
    staging = Staging(root, EVALUATION, contained=False)
    taken = outcome.fetch(parts, ["b", "kept", "a"], small, store, staging)
    staging.publish()
    assert {path.parent.name for path in (root / "reports/evaluation").rglob("*.json")} == {"kept", "a", "b"}
    assert (root / SCORES).read_text() == '{\n  "b": 1.0,\n  "kept": 0.5,\n  "a": 0.25\n}\n'
    assert taken == len("kept") + len("a") + len("b")


def test_a_share_that_fails_takes_no_report_and_no_score_that_was_here(root: Path) -> None:
    small, store, (first, _) = shares(root)
    for name, text in {"reports/evaluation/kept/metrics.json": "kept", SCORES: "all scores"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    staging = Staging(root, EVALUATION, contained=False)
    brought = {name: digest for name, digest in first.outs.items() if "/a/" in name}
    outcome.fetch([Done(1, {}), Done(0, brought)], ["kept", "a"], small, store, staging)
    staging.publish()
    assert {path.parent.name for path in (root / "reports/evaluation").rglob("*.json")} == {"kept", "a"}
    assert (root / SCORES).read_text() == "all scores"


@pytest.mark.parametrize("name", ["reports/evaluation/../../.bashrc", "/etc/passwd"])
def test_a_node_cannot_have_home_write_elsewhere(root: Path, name: str) -> None:
    small, store, (first, _) = shares(root)
    staging = Staging(root, EVALUATION, contained=False)
    with pytest.raises(ClusterError, match="leads out of the project"):
        outcome.fetch([Done(0, {name: next(iter(first.outs.values()))})], [], small, store, staging)
    assert not list(staging.folder.rglob("*.bashrc"))


def test_outputs_that_did_not_change_are_not_taken_again(root: Path) -> None:
    small, store, _ = shares(root)
    only = Done(0, small.inputs)
    assert outcome.fetch([only], [], small, store, Staging(root, EVALUATION, contained=False)) == 0


def test_the_closing_line_accounts_for_every_byte_that_travelled() -> None:
    travelled = Travelled(3000, 2, 1, 1, put=10, fetched=20, made=30, taken=40, inputs=FILES)
    assert travelled.line() == (
        "  ray: 1 worker on a cluster of 2, started again once; code and params 3.0 kB; 1 input of 8 B by digest, "
        "10 B of them sent from here, 20 B fetched by nodes; outputs: 30 B sent, 40 B taken home"
    )


def test_dvc_is_asked_for_the_inputs_only_where_it_runs_the_stage(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    assert Course(Staging(tmp_path, TRAINING, contained=False), "x").record is None
