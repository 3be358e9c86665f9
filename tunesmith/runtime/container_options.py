"""The options of a stage's container: what it may see, use and do, as plain data for the engine."""

import json
import os
import shutil
import signal
import sys
from hashlib import sha256
from pathlib import Path

from tunesmith.core import console, layout, lineage
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import ContainerError
from tunesmith.runtime import container_init, mounts, stage_lookup
from tunesmith.runtime.settings import Runtime
from tunesmith.runtime.staging import Staging

PASSED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "TERM")
"""Variables that a stage gets from the caller, where they are set."""
PASSED_WITH_NETWORK = (
    *("HF_TOKEN", "HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL"),
    *("PIP_CONFIG_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),  # files, visible if runtime.mounts names them
)
"""Further variables for a stage with a network, in upper and lower case."""


def name(stage: Stage, root: Path) -> str:
    """The name of the container of this stage of this project; an engine refuses a second one of the same name."""
    return f"tunesmith-{stage.target.replace('@', '-')}-{sha256(str(root).encode()).hexdigest()[:8]}"


def settings(stage: Stage, runtime: Runtime, digest: str, staging: Staging) -> dict[str, object]:
    """The arguments of the engine's call that creates the container."""
    caches = [*mounts.of_hub(stage.network), *mounts.of_datasets(stage.network), *mounts.of_dvc(staging.root)]
    package = mounts.of_package(staging.root)
    outside = [*caches, *package, *mounts.of_user(runtime.mounts)]
    stage_name, *arguments = stage_lookup.words(stage)
    visible = list({mount.target: mount for mount in [*staging.mounts, *outside]}.values())  # the user's mounts win
    return {
        "image": digest,
        "name": name(stage, staging.root),
        "entrypoint": ["python", "-m", "tunesmith.runtime.container_init"],
        "command": [*runtime.module(stage_name), *arguments],
        "environment": _environment(stage, runtime, digest, staging)
        | ({"PYTHONPATH": str(mounts.PACKAGES)} if package else {}),
        "working_dir": str(staging.root),
        "user": f"{os.getuid()}:{os.getgid()}",
        "stdin_open": True,  # the pipe that process 1 watches
        "auto_remove": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "network_mode": runtime.network if stage.network else "none",
        "mem_limit": runtime.memory,
        "memswap_limit": runtime.memory,  # which leaves no swap
        "nano_cpus": round(runtime.cpus * 1e9) if runtime.cpus else None,
        "pids_limit": runtime.pids,
        "shm_size": runtime.shared_memory,
        "tmpfs": {"/tmp": f"rw,nosuid,nodev,exec,mode=1777,size={runtime.scratch}"},
        "device_requests": _gpus(runtime),
        "log_config": {"type": "none"},  # its output is streamed, so the engine need not store it
        "mounts": [
            {
                "Type": "bind",
                "Source": str(mount.source),
                "Target": str(mount.target),
                "ReadOnly": not mount.writable,
            }
            for mount in [*visible, *mounts.submounts(visible)]
        ],
    }


def _environment(stage: Stage, runtime: Runtime, digest: str, staging: Staging) -> dict[str, str]:
    passed = [*PASSED, *((*PASSED_WITH_NETWORK, *map(str.lower, PASSED_WITH_NETWORK)) if stage.network else ())]
    size = shutil.get_terminal_size()
    return {
        **{name: os.environ[name] for name in passed if name in os.environ},
        **mounts.hub_environment(stage.network),
        **runtime.environment,
        "HOME": "/tmp",
        "USER": "tunesmith",  # the image may lack the user; libraries need a name
        "PYTHONDONTWRITEBYTECODE": "1",
        layout.IMAGE_DIGEST_VARIABLE: digest,
        layout.RUN_VARIABLE: staging.run,
        layout.CODE_VARIABLE: json.dumps(lineage.code()),  # the image has no git
        container_init.WRITABLE: json.dumps([str(mount.target) for mount in staging.mounts if mount.writable]),
        container_init.TERMINAL: f"{size.lines}x{size.columns}" if sys.stdout.isatty() else "",
    }


def _gpus(runtime: Runtime) -> list[dict[str, object]]:
    if runtime.gpus is None:
        return []
    devices: dict[str, object] = (
        {"device_ids": runtime.gpus}
        if isinstance(runtime.gpus, list)
        else {"count": -1 if runtime.gpus == "all" else runtime.gpus}
    )
    return [{"capabilities": [["gpu"]], **devices}]


def check_status(status: int, stage: Stage, runtime: Runtime, root: Path) -> int:
    """Return the stage's own exit status. Raises ContainerError for an end that the stage could not report itself."""
    match status:
        case container_init.OUT_OF_MEMORY if runtime.memory is None:
            raise ContainerError(f"{stage.target} was killed: the machine ran out of memory", fix=_memory_fix(stage))
        case container_init.OUT_OF_MEMORY:
            raise ContainerError(
                f"{stage.target} was killed: it needed more memory than runtime.memory ({runtime.memory}) gives",
                fix=f"raise the limit; or {_memory_fix(stage)}",
            )
        case container_init.OUT_OF_PIDS:
            raise ContainerError(
                f"{stage.target} failed: it needed more processes and threads than runtime.pids ({runtime.pids})",
                fix="raise the limit if the stage is one of yours; otherwise find out what it started",
            )
        case container_init.SCRATCH_FULL:
            raise ContainerError(
                f"{stage.target} failed with /tmp full: runtime.scratch is {runtime.scratch}",
                fix="raise it; it is memory, and counts towards runtime.memory",
            )
        case container_init.SHARED_MEMORY_FULL:
            raise ContainerError(
                f"{stage.target} failed with /dev/shm full: runtime.shared_memory is {runtime.shared_memory}",
                fix="raise it, or lower the number of workers that load data",
            )
        case container_init.NOT_WRITABLE:
            raise ContainerError(
                f"{root}: the container cannot write there as user {os.getuid()}",
                fix="an engine that maps users, or a network disk, may forbid it: use another folder",
            )
        case _ if status > 128 and status != 128 + signal.SIGINT:
            name = signal.Signals(status - 128).name if status - 128 in list(signal.Signals) else status
            raise ContainerError(
                f"{stage.target} was ended by {name}",
                fix="unless somebody ended it, the machine ran out of memory: see `dmesg`, and set runtime.memory",
            )
    return status


def _memory_fix(stage: Stage) -> str:
    name, *arguments = stage_lookup.words(stage)
    return console.how_to_save_memory(name, arguments)
