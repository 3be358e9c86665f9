"""Trainings of a tiny model that are killed with SIGKILL, each in a fork of a process that has the libraries imported.

    python -P tests/mortal_trainings.py FOLDER KILLS SEED OBJECTIVE...

trains each objective in copies of the project FOLDER, once without a kill, then as often as it takes for KILLS of them
in all, each at a random moment; a killed training is started again until it ends. Prints a JSON object a kill.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

LIBRARIES = ("torch", "transformers.trainer", "peft", "trl.trainer.sft_trainer", "trl.trainer.dpo_trainer")


def start(project: Path, stage: Callable[[str], object], name: str) -> int:
    """Run a stage in a fork, with a checkpoint after every step; its process ID."""
    if child := os.fork():
        return child
    os.chdir(project)
    for number in (1, 2):
        os.dup2(os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ["TUNESMITH_CHECKPOINT_SECONDS"] = "0"
    try:
        stage(name)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def outcome(project: Path, name: str) -> tuple[str, list[dict[str, object]]]:
    """The digest of the weights, and the steps and validations of the journal without what depends on the clock."""
    from tunesmith.core import journal, manifest

    folder = project / "models" / name
    events = [
        {key: value for key, value in event.items() if key not in ("time", "step_time")}
        for event in journal.read(folder / journal.NAME)
        if event["event"] in ("step", "validation")
    ]
    return manifest.verify(folder).weights_digest, events


def main(folder: Path, kills: int, seed: int, names: list[str]) -> None:
    import method_project

    from stages import train_dpo, train_grpo, train_kto, train_reward, train_rlhf, train_sft
    from tunesmith.verifiers import catalog
    from tunesmith.verifiers.verdict import Verifier

    catalog.VERIFIERS["number"] = Verifier(method_project.parity)
    stages = {"dpo": train_dpo, "grpo": train_grpo, "kto": train_kto, "reward": train_reward, "rlhf": train_rlhf}
    generator = random.Random(seed)
    for number, name in enumerate(names):
        stage = stages.get(name.partition("-")[0], train_sft).main
        whole = folder.with_name(f"{name}-whole")
        shutil.copytree(folder, whole)
        began = time.monotonic()
        assert os.waitpid(start(whole, stage, name), 0)[1] == 0, (whole / "log").read_text()
        duration, expected = time.monotonic() - began, outcome(whole, name)
        for attempt in range(kills * number // len(names), kills * (number + 1) // len(names)):
            project = folder.with_name(f"{name}-{attempt}")
            killed = False
            while not killed:  # and not done before the moment came
                shutil.rmtree(project, ignore_errors=True)
                shutil.copytree(folder, project)
                child = start(project, stage, name)
                time.sleep(generator.uniform(0, duration))
                os.kill(child, signal.SIGKILL)
                killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
            saving = any(project.glob("build/checkpoints/host/*/*/.unfinished/*"))
            steps = sorted(path.name for path in project.glob("build/checkpoints/host/*/*/step-*"))
            assert os.waitpid(start(project, stage, name), 0)[1] == 0, (project / "log").read_text()
            same = outcome(project, name) == expected
            left = [str(path.relative_to(project)) for path in project.glob("build/checkpoints/host/*/*/*")]
            shutil.rmtree(project)
            found = {
                "name": name,
                "killed": killed,
                "saving": saving,
                "resumed": steps[-1:],
                "same": same,
                "left": left,
            }
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    sys.path[:0] = [str(Path.cwd()), str(Path(__file__).parent)]
    for library in LIBRARIES:
        __import__(library)
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
