"""One process of a stage on a node: it sees what was sent and nothing else, and all that it makes is brought back."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from runtime.cluster.jobs import ATTEMPT, Heard, in_a_terminal, job

from tunesmith.core.dvc_store import Store
from tunesmith.runtime.cluster import node
from tunesmith.runtime.cluster.job import Done, Fetched, Job, Saved

ALONE = node.Rank(0, 1, {})
LOOK = """
import os, sys
from pathlib import Path
files = sorted(str(path) for path in Path().rglob("*") if path.is_file() and "__pycache__" not in str(path))
print(sys.argv[1:], os.environ["GIVEN"], os.environ["OMP_NUM_THREADS"], os.environ["TUNESMITH_RUN"], files)
print("to stderr", file=sys.stderr)
Path("models/x").mkdir()
Path("models/x/weights").write_text(Path("data/rows").read_text() * 2)
Path("reports/x.json").write_text("new")
Path("scratch").write_text("is not an output")
"""
INPUTS = {"data/rows": "rows", "reports/x.json": "old"}


@pytest.fixture(autouse=True)
def _node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "PARCEL", tmp_path / "parcel")
    monkeypatch.setattr(node, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(node, "SETTLE_SECONDS", 0.0)
    monkeypatch.setenv("TUNESMITH_NODE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MASTER_PORT", "1")  # of the worker that starts the stage, not of the stage


def run(job: Job, heard: Heard, rank: node.Rank = ALONE, saved: Saved | None = None) -> Done | None:
    return node.run(job, ATTEMPT, saved or job.checkpoints, rank, heard, "node-a")


def test_a_stage_sees_its_code_and_inputs_and_its_outputs_are_in_the_store(tmp_path: Path) -> None:
    heard, small = Heard(), job(tmp_path, LOOK, inputs=INPUTS)
    done = run(small, heard)
    assert done is not None
    files = "['.ready', 'data/rows', 'reports/x.json', 'stages/__init__.py', 'stages/small.py']"
    assert heard.text(1) == f"['x'] by home 3 {ATTEMPT.run} {files}\n"
    assert heard.text(2) == "to stderr\n"
    assert (done.status, set(done.outs), done.sent) == (0, {"models/x/weights", "reports/x.json"}, 8 + 3)
    Store(small.store).get(done.outs["models/x/weights"], tmp_path / "weights")
    assert (tmp_path / "weights").read_text() == "rowsrows"
    assert not list((tmp_path / "cache" / "work").glob("*-node*"))


def test_inputs_are_fetched_once_and_no_stage_can_change_them_for_the_next(tmp_path: Path) -> None:
    heard, small = Heard(), job(tmp_path, LOOK, inputs=INPUTS)
    run(small, heard)
    run(small, heard)
    assert [event.size for event in heard.events if isinstance(event, Fetched)] == [7, 0]
    (cached,) = (
        path for path in (tmp_path / "cache/files").rglob("*") if path.is_file() and path.read_bytes() == b"rows"
    )
    assert not cached.stat().st_mode & 0o222
    cached.chmod(0o644)
    cached.write_text("XXXX")
    run(small, heard)
    assert [event.size for event in heard.events if isinstance(event, Fetched)] == [7, 0, 4]


def test_a_stage_has_no_group_of_ranks_unless_it_has_one(tmp_path: Path) -> None:
    stage = "import os; print(os.environ.get('MASTER_PORT'), os.environ.get('RANK'))"
    heard = Heard()
    run(job(tmp_path, stage), heard)
    run(job(tmp_path, stage), heard, node.Rank(0, 2, {"RANK": "0", "MASTER_PORT": "29500"}))
    assert heard.text(1) == "None None\n29500 0\n"


@pytest.mark.parametrize(("gpus", "visible"), [(0, "''"), (1, "'3'")])
def test_a_stage_sees_no_gpu_that_it_has_not_reserved_nor_the_clusters_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setenv("TUNESMITH_IMAGE_DIGEST", "")  # as compose files set what is not there
    stage = (
        "from os import environ as e\n"
        "print(repr(e['CUDA_VISIBLE_DEVICES']), 'RAY_AUTH_TOKEN' in e, 'TUNESMITH_IMAGE_DIGEST' in e)"
    )
    heard = Heard()
    run(replace(job(tmp_path, stage), gpus=gpus), heard)
    assert heard.text(1) == f"{visible} False False\n"


def test_a_cache_that_every_user_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    done = run(job(tmp_path, LOOK, inputs=INPUTS), Heard())
    assert done is not None
    assert "every user of the node may write there" in done.last_words


def test_a_rank_that_was_interrupted_does_not_wait_for_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "SETTLE_SECONDS", 60.0)
    small = job(tmp_path, "import sys; print('KeyboardInterrupt'); sys.exit(130)")
    assert run(small, Heard(), node.Rank(1, 2, {})) == Done(130, {}, 0, 1)


def test_a_failed_rank_tells_its_own_last_words_and_shows_no_output_before(tmp_path: Path) -> None:
    heard = Heard()
    small = job(tmp_path, "import sys; print('step', file=sys.stderr); sys.exit('error: rank 1 found no rows')")
    assert run(small, heard, node.Rank(1, 2, {})) == Done(1, {}, 0, 1, "step\nerror: rank 1 found no rows\n")
    assert heard.text(1) == heard.text(2) == ""


def test_a_rank_that_ends_well_leaves_the_outputs_to_the_first(tmp_path: Path) -> None:
    assert run(job(tmp_path, LOOK, inputs=INPUTS), Heard(), node.Rank(1, 2, {})) is None


def test_a_stage_that_a_signal_ended_is_started_again_by_ray(tmp_path: Path) -> None:
    with pytest.raises(node.StageKilledError, match="small was ended by SIGKILL"):
        run(job(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), Heard())


@pytest.mark.parametrize(
    ("stage", "status"),
    [
        ("try: time.sleep(60)\nexcept KeyboardInterrupt: sys.exit(130)", 130),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(60)", 130),
    ],
    ids=["ends by itself", "is ended after its grace period"],
)
def test_an_interrupt_at_home_reaches_the_stage(tmp_path: Path, stage: str, status: int) -> None:
    stage = f"import signal, sys, time\nprint('started', flush=True)\n{stage}"
    began = time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as Ray does in its processes
    done = run(replace(job(tmp_path, stage), grace=0.5), Heard(stop=True))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    assert done is not None
    assert done.status == status
    assert time.monotonic() - began < 30


def test_whoever_has_a_terminal_sees_the_stage_as_in_one(tmp_path: Path) -> None:
    heard = Heard()
    stage = "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size(1).columns)"
    run(in_a_terminal(job(tmp_path, stage)), heard)
    assert heard.text(1) == "True 80\r\n"


def test_an_input_that_the_store_lost_ends_the_stage_with_the_reason(tmp_path: Path) -> None:
    small = job(tmp_path, LOOK, inputs=INPUTS)
    for path in (tmp_path / "shared").rglob("*"):
        if path.is_file():
            path.unlink()
    done = run(small, Heard())
    assert done is not None
    assert done.status == 1
    assert "is not there\n  fix: run the stage again" in done.last_words


TRAIN = """
import sys, time
from pathlib import Path
from tunesmith.core import checkpoints, journal
store = checkpoints.Store(checkpoints.place("x", "k" * 64))
begun = store.newest()
partial = Path("models/.x.partial")
partial.mkdir()
log = (partial / journal.NAME).open("a")
for step in range(begun.step if begun else 0, 4):
    print(f'{{"step": {step + 1}}}', file=log, flush=True)
    store.unfinished.mkdir()
    (store.unfinished / "a").mkdir()
    (store.unfinished / "a" / "optimizer.pt").write_bytes(bytes([step]) * 10)
    (store.folder / "prompts.json").write_text("kept beside")
    store.keep(store.unfinished / "a", {"key": store.key, "step": step + 1})
    store.unfinished.rmdir()
    while not Path(f"seen-{step + 1}").exists() and step == 1 and len(sys.argv) < 3:
        time.sleep(0.05)
partial.rename("models/x")
"""


def test_a_training_goes_on_elsewhere_from_the_newest_checkpoint_that_was_brought_home(tmp_path: Path) -> None:
    """The stage waits after step 2 until its checkpoint is in the store, and is then killed with its workspace."""
    small = job(tmp_path, TRAIN, model="x")
    heard = Heard()

    class EndsAtStep2(Heard):
        def __call__(self, events: list[object]) -> bool:  # type: ignore[override]
            super().__call__(events)  # type: ignore[arg-type]
            return any(saved.step == 2 for saved in self.saved)

    interrupted = EndsAtStep2()
    assert getattr(run(small, interrupted), "status", None) == 130 or interrupted.done == []
    newest = interrupted.saved[-1]
    assert newest.step == 2
    assert interrupted.journal.startswith(b'{"step": 1}\n{"step": 2}\n')
    assert {Path(name).name for name in newest.files} >= {"optimizer.pt", "run.json", "manifest.json", "prompts.json"}
    done = node.run(small.part(("x", "y"), {}), ATTEMPT, newest, ALONE, heard, "node-b")
    assert done is not None
    assert done.status == 0
    assert heard.journal == b'{"step": 3}\n{"step": 4}\n'


def test_a_stage_ends_with_the_worker_that_started_it(tmp_path: Path) -> None:
    small = job(tmp_path, "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    (tmp_path / "worker.py").write_text(
        "import os, sys, subprocess\n"
        f"child = subprocess.Popen([sys.executable, {str(node.TIED)!r}, str(os.getpid()), 'stages.small'],"
        f" cwd={str(tmp_path / 'parcel')!r})\nchild.wait()\n"
    )
    assert small.module == "stages.small"
    with subprocess.Popen([sys.executable, tmp_path / "worker.py"], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert int(worker.stdout.readline()) != worker.pid
        worker.kill()
        assert worker.stdout.read() == ""  # the stage holds it open while it lives
