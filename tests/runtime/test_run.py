"""On the host, the process becomes the stage."""

import os
import subprocess
import sys
from pathlib import Path

from runtime_settings import write_params

ROOT = Path(__file__).parents[2]


def test_on_the_host_the_process_becomes_the_stage_with_as_many_threads_as_usable_cpus(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "show.py").write_text(
        "import os, sys; print(os.environ['OMP_NUM_THREADS'], os.getpid(), sys.argv[1:]); sys.exit(3)"
    )
    write_params(tmp_path)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP")}
    command = [sys.executable, "-m", "tunesmith.runtime", "show", "a b"]
    environment |= {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [0]); os.execv({command[0]!r}, {command!r})"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.communicate()[0] == f"1 {process.pid} ['a b']\n"
        assert process.returncode == 3
