"""Trainings of one model that are started at once, each in a fork of a process that has the libraries imported.

    python tests/racing_trainings.py FOLDER RACES SEED NAME

trains NAME in copies of the project FOLDER: alone, then RACES times twice at once, then beside a training whose parent
was killed, once for one that lives on and once for one that is tied to its parent. Prints a JSON object for each. Linux
alone shows in /proc which process writes.
"""

import ctypes
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import mortal_trainings
from mortal_trainings import LIBRARIES, outcome

DONE, BUSY = 0, 3
"""Exit statuses of a training that ended well, and of one that was refused."""
PR_SET_CHILD_SUBREAPER = 36


def start(project: Path, name: str, before: Callable[[], object] = lambda: None) -> int:
    """Run a training in a fork, with a checkpoint after every step; its process ID. before: what it does first."""
    from stages import train_sft
    from tunesmith.core.errors import BusyError

    def stage(name: str) -> None:
        before()
        try:
            train_sft.main(name)
        except BusyError as error:
            print(error, flush=True)
            os._exit(BUSY)

    return mortal_trainings.start(project, stage, name)


def writes(process: int, project: Path) -> bool:
    """Whether a process has a file of the model or of its checkpoints open for writing, locks aside."""
    places = tuple(str(project / folder) for folder in ("models", "build/checkpoints"))
    with suppress(OSError):  # it ended meanwhile
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                path = str(descriptor.readlink())
                flags = (descriptor.parents[1] / "fdinfo" / descriptor.name).read_text().split()[3]
                if path.startswith(places) and not path.endswith(".lock") and int(flags, 8) & os.O_ACCMODE:
                    return True
    return False


def watch(processes: list[int], project: Path) -> dict[str, object]:
    """Wait for the processes; their exit statuses, and the most that wrote at once in all the looks at them."""
    statuses, most = dict[int, int](), 0
    while len(statuses) < len(processes):
        time.sleep(0.002)
        most = max(most, sum(writes(process, project) for process in processes))
        for process in processes:
            if process not in statuses:
                ended, status = os.waitpid(process, os.WNOHANG)
                if ended:
                    statuses[process] = os.waitstatus_to_exitcode(status)
    return {"statuses": [statuses[process] for process in processes], "writers": most}


def orphan(project: Path, name: str, *, tied: bool) -> int:
    """A training whose parent was killed after its first checkpoint; its process ID.

    tied: whether it is tied to its parent, as the runtime's are.
    """
    from tunesmith.runtime import run

    ours, theirs = os.pipe()
    parent = os.fork()
    if parent == 0:
        here = os.getpid()
        child = start(project, name, lambda: run.end_with(here) if tied else None)
        os.write(theirs, str(child).encode())
        signal.pause()
    process = int(os.read(ours, 100))
    while not any(project.glob("build/checkpoints/host/*/*/step-*")):
        time.sleep(0.01)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    return process


def main(folder: Path, races: int, seed: int, name: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # to wait for orphans too
    generator = random.Random(seed)

    def project(trial: str) -> Path:
        return Path(shutil.copytree(folder, folder.with_name(f"{name}-{trial}")))

    def show(place: Path, **found: object) -> None:
        log, whole = (place / "log").read_text(), outcome(place, name)
        print(json.dumps({"same": whole == expected, "log": log, **found}), flush=True)
        shutil.rmtree(place)

    alone = project("alone")
    assert watch([start(alone, name)], alone) == {"statuses": [DONE], "writers": 1}, (alone / "log").read_text()
    expected = outcome(alone, name)
    for race in range(races):
        place = project(str(race))
        first = start(place, name)
        time.sleep(generator.choice([0, generator.uniform(0, 0.2)]))
        second = start(place, name)
        show(place, kind="race", processes=[first, second], **watch([first, second], place))
    place = project("orphan")
    left = orphan(place, name, tied=False)
    show(place, kind="orphan", processes=[left], **watch([left, start(place, name)], place))
    place = project("tied")
    left = orphan(place, name, tied=True)
    ended = watch([left], place)
    show(place, kind="tied", processes=[left], **watch([start(place, name)], place) | {"left": ended["statuses"]})


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    for library in LIBRARIES:
        __import__(library)
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
