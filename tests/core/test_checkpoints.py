import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tunesmith.core import checkpoints, layout, manifest
from tunesmith.core.checkpoints import Store
from tunesmith.core.errors import BusyError, ResourceError, TrainingError

CONTENTS = {
    "adapter_model.safetensors": os.urandom(3000),
    "optimizer.pt": os.urandom(5000),
    "rng_state.pth": os.urandom(300),
    "scheduler.pt": os.urandom(50),
    "trainer_state.json": b'{"global_step": 1}\n',
    "training.jsonl": b'{"event": "start"}\n',
}
KEY = "a" * 64


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Stopped(BaseException):
    """The end of a training that was stopped."""


@pytest.fixture
def store() -> Iterator[Store]:
    with suppress(Stopped), checkpoints.opened("m", KEY) as opened:
        yield opened
        raise Stopped


def save(store: Store, step: int) -> None:
    folder = store.unfinished / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content + bytes([step]))
    store.keep(folder, {"key": store.key, "step": step})


def steps(store: Store) -> list[int]:
    return [int(folder.name[5:]) for folder in sorted(store.folder.glob("step-*"))]


def newest(store: Store) -> int | None:
    found = store.newest()
    return found and found.step


def test_the_newest_two_checkpoints_are_kept(store: Store) -> None:
    assert newest(store) is None
    for step in (3, 6, 9, 12):
        save(store, step)
        assert newest(store) == step
    assert steps(store) == [9, 12]
    assert not any(store.unfinished.iterdir())


def damage(folder: Path, other: Path, kind: str, generator: random.Random) -> None:
    """Damage a file of a checkpoint. other: an older checkpoint."""
    file = generator.choice(sorted(folder.iterdir()))
    content = file.read_bytes()
    match kind:
        case "truncated":
            file.write_bytes(content[: generator.randrange(len(content))])
        case "a bit flipped":
            place = generator.randrange(len(content))
            file.write_bytes(
                content[:place] + bytes([content[place] ^ 1 << generator.randrange(8)]) + content[place + 1 :]
            )
        case "a file missing":
            file.unlink()
        case "a file of an older one":
            shutil.copy(other / file.name, file)
        case "a file more":
            (folder / "more").write_bytes(b"")


@pytest.mark.parametrize(
    "kind", ["truncated", "a bit flipped", "a file missing", "a file of an older one", "a file more"]
)
def test_damage_is_detected_and_the_checkpoint_before_is_taken(
    store: Store, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = random.Random(kind)
    for _ in range(40):
        for step in (3, 6):
            save(store, step)
        damage(store.folder / "step-00000006", store.folder / "step-00000003", kind, generator)
        assert newest(store) == 3
        assert "the checkpoint of step 6 is damaged and not used: " in capsys.readouterr().out
        assert steps(store) == [3]


def test_names_that_no_training_gives_are_passed_over(store: Store) -> None:
    save(store, 3)
    for name in ("step-x", "step-", "step-9999999999999999999999", "step-\u0663"):
        (store.folder / name).mkdir()
    assert newest(store) == 3
    (left,) = checkpoints.unfinished(store.folder.parent)
    assert left.step == 3


def test_a_checkpoint_of_another_training_or_step_is_not_taken(store: Store) -> None:
    save(store, 3)
    shutil.copytree(store.folder / "step-00000003", store.folder / "step-00000009")
    assert newest(store) == 3
    folder = store.folder / "step-00000003"
    (folder / checkpoints.STATE).write_text(json.dumps({"key": "another", "step": 3}))
    manifest.write(folder, pickles=True)
    assert newest(store) is None


@contextmanager
def failing_at(line: int) -> Iterator[Callable[[], int]]:
    """Raise OSError at the ``line``-th line of ours that runs; the function that is yielded counts the lines."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if "tunesmith/core" not in frame.f_code.co_filename:
            return None
        if event == "line" and (count := count + 1) == line:
            raise OSError(28, "No space left on device")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lambda: count
    finally:
        sys.settrace(before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file is open at some of the lines
def test_a_save_that_fails_at_any_line_leaves_a_checkpoint_to_go_on_from(store: Store) -> None:
    save(store, 3)
    for line in itertools.count(1):
        with suppress(OSError), failing_at(line) as lines:
            save(store, 6)
            break
        assert newest(store) in (3, 6)
        assert 3 in steps(store)
        shutil.rmtree(store.folder / "step-00000006", ignore_errors=True)
        Store(store.folder)  # the next process
    assert lines() > 100
    assert newest(store) == 6


def test_too_little_space_is_an_error_that_names_what_is_kept(store: Store) -> None:
    store.check_room(1)
    save(store, 3)
    with pytest.raises(ResourceError, match=r"no room for a checkpoint: .* are free; the one of step 3 is kept"):
        store.check_room(10**18)


def test_only_one_process_trains_and_a_killed_one_holds_nothing(project: Path) -> None:
    script = f"""
import sys, time
from tunesmith.core import checkpoints
with checkpoints.opened("m", {KEY!r}) as store:
    print("open", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(BusyError, match=rf"m: the same training runs already.*process {other.pid}"):
            checkpoints.opened("m", KEY).__enter__()
        (left,) = checkpoints.unfinished(checkpoints.root() / "m")
        assert not checkpoints.remove(left)
        with checkpoints.opened("m", "b" * 64):  # with other params, in another work tree
            pass
        assert left.folder.exists()
        other.kill()
    with checkpoints.opened("m", KEY):
        pass
    assert checkpoints.unfinished(checkpoints.root() / "m") == []


def test_checkpoints_are_removed_when_a_training_is_done_or_cannot_go_on_and_kept_when_it_is_stopped(
    project: Path,
) -> None:
    def train(key: str, ends: type[BaseException]) -> None:
        with suppress(ends), checkpoints.opened("m", key) as store:
            save(store, 3)
            raise ends("the loss is not finite", fix="lower the rate") if ends is TrainingError else ends

    for error in (KeyboardInterrupt, OSError):
        train(KEY, error)
        assert [left.step for left in checkpoints.unfinished(checkpoints.root() / "m")] == [3]
    other = checkpoints.place("m", "b" * 64)
    train(other.name, TrainingError)
    assert not other.exists()
    with checkpoints.opened("m", other.name) as store:
        assert store.newest() is None
    assert [left.folder.name for left in checkpoints.unfinished(checkpoints.root() / "m")] == [KEY]  # of other params
    with checkpoints.opened("m", KEY) as store:
        assert newest(store) == 3
    assert checkpoints.unfinished(checkpoints.root() / "m") == []


def test_a_container_reads_no_checkpoints_of_the_host_and_an_experiment_those_of_its_project(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = checkpoints.root()
    monkeypatch.setenv(layout.IMAGE_DIGEST_VARIABLE, "sha256:1")
    assert checkpoints.root() != host
    monkeypatch.delenv(layout.IMAGE_DIGEST_VARIABLE)
    experiment = project.joinpath(*layout.EXPERIMENTS, "tmp1")
    experiment.mkdir(parents=True)
    monkeypatch.chdir(experiment)
    assert checkpoints.root() == host
