"""Data sets on the model hub: ``hub:OWNER/NAME[@REVISION][:PART]``.

PART is CONFIGURATION/SPLIT, either alone, or a file, a pattern of files or a folder of the repository. Configurations,
splits and their files are what `datasets.load_dataset` takes them to be. Nothing but the chosen files and the
repository's README is downloaded.
"""

import fnmatch
import glob
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from httpx2 import HTTPError  # of its transport, which the hub's client passes on
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tunesmith.core.console import disk_full
from tunesmith.core.errors import DataError
from tunesmith.data import readers
from tunesmith.data.readers import Files

FORM = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:\s]+))?(?::(?P<part>.+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
UNREACHABLE = (
    "the hub cannot be reached, and its cache does not hold this",
    "check the network, HF_ENDPOINT and HF_HUB_OFFLINE; or download it elsewhere, and name the file or folder",
)
CHOICES = 20
"""Largest number of choices that a message lists."""


@dataclass(frozen=True)
class Place:
    """A data set on the hub, or a part of it."""

    repo: str
    revision: str
    """A branch, a tag or a commit."""
    part: str | None

    def __str__(self) -> str:
        return f"hub:{self.repo}@{self.revision}" + (f":{self.part}" if self.part else "")


def parse(text: str) -> Place:
    """Parse hub:OWNER/NAME[@REVISION][:PART]. Raises DataError for anything else."""
    match = FORM.fullmatch(text)
    if match is None:
        raise DataError(
            f"{text}: not a data set on the hub",
            fix="write hub:OWNER/NAME, hub:OWNER/NAME:CONFIGURATION/SPLIT or hub:OWNER/NAME@REVISION:FILE",
        )
    return Place(match["repo"], match["revision"] or "main", match["part"])


def fetch(place: Place) -> tuple[Place, Files, list[str]]:
    """Download the files of a place to the hub's cache; return the place at its commit, the files, and notes.

    Raises DataError where the hub cannot be reached or refuses, and where the place could be several: it lists them.
    """
    with _explained(place):
        place, names, notes = resolve(place)
        if len(names) == 1:
            file = Path(hf_hub_download(place.repo, names[0], repo_type="dataset", revision=place.revision))
            return place, Files(str(place), file.parent, (file,)), notes
        patterns = [glob.escape(name) for name in names]
        folder = Path(
            snapshot_download(place.repo, repo_type="dataset", revision=place.revision, allow_patterns=patterns)
        )
        return place, Files(str(place), folder, tuple(sorted(folder / name for name in names))), notes


def resolve(place: Place) -> tuple[Place, list[str], list[str]]:
    """Return the place at its commit and with its configuration and split, the names of its files, and notes."""
    api, part = HfApi(), place.part
    is_file = part is not None and readers.has_known_format(Path(part)) and glob.escape(part) == part
    if part and is_file and COMMIT.fullmatch(place.revision):
        return place, [part], []  # which the hub's cache can hold
    info = api.dataset_info(place.repo, revision=place.revision)
    if info.gated:
        api.auth_check(place.repo, repo_type="dataset")
    notes = [] if info.sha == place.revision else [f"{place.revision} is now commit {info.sha}"]
    place = replace(place, revision=str(info.sha))
    names = [file.rfilename for file in info.siblings or []]
    readable = [name for name in names if readers.has_known_format(Path(name))]
    if part in names:
        return place, [part], notes
    if part and is_file:
        raise DataError(f"{place}: no such file", fix=_choices(place, readable))
    if part and (matching := fnmatch.filter(readable, part)):
        return place, matching, notes
    try:
        place, chosen, more = choose_split(place, *splits(place))
    except DataError:
        below = [name for name in readable if part and name.startswith(f"{part.rstrip('/')}/")]
        if not below:
            raise
        return place, below, notes
    if not set(chosen) <= set(readable):
        raise _unreadable(place, f"its files are not of a format that is read here, such as {chosen[0]}")
    return place, chosen, [*notes, *more]


def splits(place: Place) -> tuple[str, list[str], dict[str, list[str]]]:
    """Return the configuration that a place names or defaults to, all configurations, and the files of its splits.

    Raises DataError where there are several configurations to choose from.
    """
    from datasets import get_dataset_config_names, get_dataset_default_config_name, load_dataset_builder

    repository = f"hf://datasets/{place.repo}"  # never a folder of that name here
    try:
        configurations = get_dataset_config_names(repository, revision=place.revision)
        configuration = (place.part or "").split("/")[0]
        if configuration not in configurations:
            configuration = get_dataset_default_config_name(repository, revision=place.revision)
        if configuration is None:
            reason = f"no configuration {place.part.split('/')[0]!r}" if place.part else "has several configurations"
            raise DataError(f"{place}: {reason}", fix=_choices(place, configurations))
        builder = load_dataset_builder(repository, configuration, revision=place.revision)
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        raise _unreadable(place, str(error)) from None
    prefix = f"{repository}@{place.revision}/"
    files = {
        str(split): [url.removeprefix(prefix) for url in urls] for split, urls in builder.config.data_files.items()
    }
    return configuration, configurations, files


def choose_split(
    place: Place, configuration: str, configurations: list[str], files: dict[str, list[str]]
) -> tuple[Place, list[str], list[str]]:
    """Return the place with its configuration and split, the split's files, and notes on the choice.

    The split is the one that the place names, or the only one, or train. Raises DataError for several others.
    """
    part = place.part or ""
    split = part.removeprefix(configuration).removeprefix("/") if part.split("/")[0] == configuration else part
    if not split:
        split = next(iter(files)) if len(files) == 1 else "train"
        reason = f"has the splits {', '.join(files)}"
    else:
        reason = f"no split {split!r} in the configuration {configuration}"
    if split not in files:
        raise DataError(f"{place}: {reason}", fix=_choices(place, (f"{configuration}/{name}" for name in files)))
    notes = []
    if place.part != f"{configuration}/{split}":
        others = [name for name in files if name != split]
        notes += [f"split {split} taken; there are also {', '.join(others)}"] if others else []
        others = [name for name in configurations if name != configuration]
        notes += [f"configuration {configuration} taken; there are also {', '.join(others)}"] if others else []
    return replace(place, part=f"{configuration}/{split}"), files[split], notes


def _unreadable(place: Place, reason: str) -> DataError:
    parquet = f"hub:{place.repo}@refs/convert/parquet:CONFIGURATION/SPLIT"
    fix = f"name a file or a folder of it, or take the Parquet files that the hub makes of most data sets: {parquet}"
    return DataError(f"{place}: {reason}", fix=fix)


def _choices(place: Place, parts: Iterable[str]) -> str:
    places = [str(replace(place, part=part)) for part in parts]
    if not places:
        return "convert it to Parquet or JSONL: it has no file of rows"
    more = [f"… and {len(places) - CHOICES} more"] if len(places) > CHOICES else []
    return "name one:\n    " + "\n    ".join([*places[:CHOICES], *more])


@contextmanager
def _explained(place: Place) -> Iterator[None]:
    """Turn the errors of the hub's client into DataErrors that say what to do."""
    page = f"{HfApi().endpoint}/datasets/{place.repo}"
    token = "run `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except GatedRepoError:
        reason, fix = "gated: its terms must be accepted, once", f"accept them at {page}, then {token}"
    except RepositoryNotFoundError:
        reason, fix = "no such data set, or a private one", f"correct the name; for a private one {token}"
    except RevisionNotFoundError:
        reason, fix = "no such revision", f"name a branch, tag or commit of {page}/commits/main, or none for the newest"
    except EntryNotFoundError as error:
        reason, fix = "no such file", f"name one of {page}/tree/{place.revision}"
        if isinstance(error, LocalEntryNotFoundError):
            reason, fix = UNREACHABLE
    except (HTTPError, HFValidationError, OSError) as error:
        if disk_full(error):
            raise
        reason, fix = UNREACHABLE
        reason = f"{reason} ({' '.join(str(error).split()) or type(error).__name__})"
    else:
        return
    raise DataError(f"{place}: {reason}", fix=fix)
