"""A file of a data set on the model hub, at a commit: ``hub:OWNER/NAME@COMMIT[:FILE]``."""

import re
from dataclasses import dataclass
from pathlib import Path

from httpx2 import HTTPError  # of its transport, which the hub's client passes on
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HFValidationError

from tunesmith.core.console import disk_full
from tunesmith.core.errors import DataError
from tunesmith.data import readers

FORM = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40})(?::(?P<file>.+))?")


@dataclass(frozen=True)
class HubFile:
    """A file of a data set on the hub. file: path within the repository; None: its only data file."""

    repo: str
    commit: str
    file: str | None

    def __str__(self) -> str:
        return f"hub:{self.repo}@{self.commit}" + (f":{self.file}" if self.file else "")


def parse(text: str) -> HubFile:
    """Parse hub:OWNER/NAME@COMMIT[:FILE]. Raises DataError for anything else."""
    match = FORM.fullmatch(text)
    if match is None:
        raise DataError(
            f"{text}: not a data set at a commit",
            fix="write hub:OWNER/NAME@COMMIT or hub:OWNER/NAME@COMMIT:FILE, the commit as 40 hex digits",
        )
    return HubFile(match["repo"], match["commit"], match["file"])


def fetch(source: HubFile) -> tuple[HubFile, Path]:
    """Download the file, or the only data file of its repository; return the file with its name, and its local path.

    Raises DataError where the hub cannot be reached, or where the repository has several data files.
    """
    try:
        if source.file is None:
            names = HfApi().list_repo_files(source.repo, repo_type="dataset", revision=source.commit)
            source = HubFile(source.repo, source.commit, _only(source, names))
        path = hf_hub_download(source.repo, str(source.file), repo_type="dataset", revision=source.commit)
    except (HTTPError, HFValidationError, OSError) as error:
        if disk_full(error):
            raise
        raise DataError(
            f"{source}: the download failed, and it is not cached: {error}",
            fix="check the network, the name, and HF_TOKEN for a gated data set; or download it and name the file",
        ) from None
    return source, Path(path)


def _only(source: HubFile, names: list[str]) -> str:
    """The only data file of a repository, or the only one with "train" in its name."""
    data = [name for name in names if readers.has_known_format(Path(name))]
    training = [name for name in data if "train" in Path(name).name]
    for candidates in (data, training):
        if len(candidates) == 1:
            return candidates[0]
    if not data:
        raise DataError(
            f"{source}: has no file of rows among {', '.join(names[:10])}", fix="convert it to Parquet or JSONL"
        )
    choices = "\n  ".join(f"{source}:{name}" for name in data[:10])
    raise DataError(f"{source}: has several files of rows", fix=f"name one:\n  {choices}")
