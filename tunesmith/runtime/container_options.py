"""What the container of a stage may see, use and do, as plain data for the engine."""

import json
import os
import shutil
import signal
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from tunesmith.core import lineage, variables
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import EngineError
from tunesmith.runtime import container_init, mounts, stage_lookup
from tunesmith.runtime.settings import Runtime
from tunesmith.runtime.staging import Staging

PASSED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "TERM")
"""Variables of the caller that a stage sees, where set."""
PASSED_WITH_NETWORK = (
    *("HF_TOKEN", "HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL"),
    *("PIP_CONFIG_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),  # files, where runtime.mounts shows them
)


def name(stage: Stage, root: Path) -> str:
    """What the container of this stage of this project is called: a second one of that name, an engine refuses."""
    return f"tunesmith-{stage.target.replace('@', '-')}-{sha256(str(root).encode()).hexdigest()[:8]}"


def settings(stage: Stage, runtime: Runtime, digest: str, staging: Staging) -> dict[str, Any]:
    """All that the container is made with: what it may see, use and do."""
    outside = [*mounts.mounts(stage.network), *mounts.of_dvc(staging.root), *mounts.more(runtime.mounts)]
    shown = list({mount.target: mount for mount in [*staging.mounts, *outside]}.values())  # what the user names wins
    return {
        "image": digest,
        "name": name(stage, staging.root),
        "entrypoint": ["python", "-m", "tunesmith.runtime.container_init"],
        "command": stage_lookup.module(stage),
        "environment": _environment(stage, digest, staging),
        "working_dir": str(staging.root),
        "user": f"{os.getuid()}:{os.getgid()}",
        "stdin_open": True,  # the other end of the pipe that process 1 watches
        "auto_remove": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "network_mode": runtime.network if stage.network else "none",
        "mem_limit": runtime.memory,
        "memswap_limit": runtime.memory,  # no swap beside it
        "nano_cpus": round(runtime.cpus * 1e9) if runtime.cpus else None,
        "pids_limit": runtime.pids,
        "shm_size": runtime.shared_memory,
        "tmpfs": {"/tmp": f"rw,nosuid,nodev,exec,mode=1777,size={runtime.scratch}"},
        "device_requests": _gpus(runtime),
        "log_config": {"type": "none"},  # what it says streams through, and is not kept twice
        "mounts": [
            {
                "Type": "bind",
                "Source": str(mount.source),
                "Target": str(mount.target),
                "ReadOnly": not mount.writable,
            }
            for mount in [*shown, *mounts.of(shown)]
        ],
    }


def _environment(stage: Stage, digest: str, staging: Staging) -> dict[str, str]:
    passed = [*PASSED, *((*PASSED_WITH_NETWORK, *map(str.lower, PASSED_WITH_NETWORK)) if stage.network else ())]
    size = shutil.get_terminal_size()
    return {
        **{name: os.environ[name] for name in passed if name in os.environ},
        **mounts.environment(stage.network),
        "HOME": "/tmp",
        "USER": "tunesmith",  # no such user in the image; libraries ask for a name
        "PYTHONDONTWRITEBYTECODE": "1",
        variables.IMAGE_DIGEST: digest,
        variables.RUN: staging.run,
        variables.CODE: json.dumps(lineage.code()),  # the image has no git
        container_init.WRITABLE: json.dumps([str(staging.root / parent) for parent in staging.parents]),
        container_init.TERMINAL: f"{size.lines}x{size.columns}" if sys.stdout.isatty() else "",
    }


def _gpus(runtime: Runtime) -> list[dict[str, Any]]:
    if runtime.gpus is None:
        return []
    asked = (
        {"device_ids": runtime.gpus}
        if isinstance(runtime.gpus, list)
        else {"count": -1 if runtime.gpus == "all" else runtime.gpus}
    )
    return [{"capabilities": [["gpu"]], **asked}]


def explained(status: int, stage: Stage, runtime: Runtime, root: Path) -> int:
    """The stage's own exit status. Raises EngineError for what it could not say itself."""
    match status:
        case container_init.OUT_OF_MEMORY if runtime.memory is None:
            raise EngineError(
                f"{stage.target} was killed: the machine ran out of memory",
                fix="`tunesmith plan` says what it takes: lower batch_size or max_length",
            )
        case container_init.OUT_OF_MEMORY:
            raise EngineError(
                f"{stage.target} was killed: it needed more memory than runtime.memory ({runtime.memory}) gives",
                fix="`tunesmith plan` says what it takes: raise the limit, or lower batch_size or max_length",
            )
        case container_init.OUT_OF_PIDS:
            raise EngineError(
                f"{stage.target} failed: it wanted more processes and threads than runtime.pids ({runtime.pids})",
                fix="raise the limit if the stage is one of yours; else find out what it started",
            )
        case container_init.SCRATCH_FULL:
            raise EngineError(
                f"{stage.target} failed with /tmp full: runtime.scratch is {runtime.scratch}",
                fix="raise it; it is memory, and counts as such",
            )
        case container_init.SHARED_MEMORY_FULL:
            raise EngineError(
                f"{stage.target} failed with /dev/shm full: runtime.shared_memory is {runtime.shared_memory}",
                fix="raise it, or lower the number of workers that load data",
            )
        case container_init.NOT_WRITABLE:
            raise EngineError(
                f"{root}: the container cannot write there as user {os.getuid()}",
                fix="an engine that maps users, or a network disk, may forbid it: use a folder that it can write",
            )
        case _ if status > 128 and status != 128 + signal.SIGINT:
            name = signal.Signals(status - 128).name if status - 128 in list(signal.Signals) else status
            raise EngineError(
                f"{stage.target} was ended by {name}",
                fix="if nobody ended it, the machine was short of memory: set runtime.memory, and see `dmesg`",
            )
    return status
