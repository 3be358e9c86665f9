"""What a file of rows is, what is wrong with it, what it can train, and the params to train it: `tunesmith advise`."""

import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tunesmith.cli.survey import UNKNOWN, Sort, survey
from tunesmith.core import files, params
from tunesmith.core.errors import DataError, ParamsError
from tunesmith.core.ready_rows import RowKind
from tunesmith.data import prepare, readers, text_scan
from tunesmith.data.contamination import HeldOut
from tunesmith.data.dataset import Dataset, check_name
from tunesmith.data.records import Problem
from tunesmith.reports import data_page

WIDTH = 100
USUAL = 0.05
"""Beyond this share, what looks like a defect is how the data are."""
RAW, HELD_OUT, BASE = Path("data/raw"), Path("data/held_out"), Path("models/base")


@dataclass(frozen=True)
class Advice:
    """sorts: most rows first. unreadable: rows that could not be read at all. dataset: params to prepare the main
    sort with. problems: what preparing it would set aside. notes: what else to know. reason: why the data set is not
    ready, or None.
    """

    sorts: list[Sort]
    unreadable: int
    dataset: Dataset | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reason: str | None = None

    @property
    def rows(self) -> int:
        return self.unreadable + sum(sort.rows for sort in self.sorts)


def run(file: str, *, write: bool, name: str | None) -> None:
    """Print the advice on a file, here or on the hub; ``write`` puts the block into params.yaml."""
    path, comment = Path(file), ""
    if file.startswith("hub:"):
        from tunesmith.cli import hub_file

        source, path = hub_file.fetch(hub_file.parse(file))
        comment = str(source)
    name = check_name(name or dataset_name(path))
    advice = advise(path, HELD_OUT)
    print("\n".join(describe(comment or path, advice)))
    if advice.dataset is None:
        raise DataError(f"{file}: nothing to prepare yet", fix="mend what is told above, and ask again")
    dataset = advice.dataset
    print("\n".join(["", *_plan(dataset.kind, advice.sorts[0].verifier)]))
    if comment:
        dataset = dataset.model_copy(update={"path": RAW / f"{name}{''.join(path.suffixes)}"})
    entry = block(name, dataset, comment)
    if not write:
        print(f"\nin params.yaml, under data: (--write puts it there)\n\n{entry}", end="")
        return
    add_to_params(name, entry)
    if comment:
        RAW.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, dataset.path)
    print(f"\nparams.yaml: data.{name} added; next:")
    print(f"  dvc repro prepare_data@{name}   prepare it; reports/data/{name}.html shows what was found")
    if dataset.kind == "answers":
        print(f"  sft: {{NAME: {{dataset: {name}}}}}   in params.yaml trains a model NAME on it")


def advise(path: Path, held_out: Path, max_bad_share: float = 0.01) -> Advice:
    """Read all of ``path`` and say what it is. Raises DataError where it cannot be read."""
    sorts, unreadable = survey(path)
    main = sorts[0] if sorts else None
    if not sorts and not unreadable:
        raise DataError(f"{path}: the file has no rows", fix=readers.EMPTY)
    if main is None or main.kind is None:
        return Advice(sorts, unreadable, reason=_not_ready(main))
    dataset = Dataset.model_validate(_settings(path, main, held_out, max_bad_share))
    try:
        dataset, problems, notes = _try(dataset)
    except DataError:  # not one row is good; perhaps because all prompts have several answers
        try:
            dataset, problems, notes = _try(dataset.model_copy(update={"one_answer": False}))
        except DataError as error:
            return Advice(sorts, unreadable, reason=error.reason)
    rows = unreadable + sum(sort.rows for sort in sorts)
    bad = sum(problem.check not in prepare.NOT_BAD for problem in problems)
    reason = None
    if bad > max_bad_share * rows:
        reason = f"{bad:,} of {rows:,} rows are bad, more than {100 * max_bad_share:g}%"
    return Advice(sorts, unreadable, dataset, problems, notes, reason)


def _try(dataset: Dataset) -> tuple[Dataset, list[Problem], list[str]]:
    """Check the rows as `prepare_data` would; params that fit the data, what would be set aside, and notes.

    Where many rows are like others, or answer the same prompt otherwise, that is how these data are.
    """
    held_out = dataset.held_out
    if not held_out.path.exists():  # not within a project
        held_out = HeldOut(path=dataset.path, overlap=1)
    tolerant = dataset.model_copy(update={"max_bad_share": 1.0, "held_out": held_out})
    with prepare.check_file(tolerant, special_tokens=text_scan.GENERAL_TOKENS, lengths=None) as found:
        problems, total = found.problems, found.total
        unused = data_page.unused_columns(dataset, found)
    share = {check: count / total for check, count in Counter(problem.check for problem in problems).items()}
    if dataset.near_duplicates is not None and share.get("near duplicate", 0) > USUAL:
        return _try(dataset.model_copy(update={"near_duplicates": None}))
    if dataset.one_answer and share.get("conflicting answers", 0) > USUAL:
        return _try(dataset.model_copy(update={"one_answer": False}))
    notes = [f"columns not used: {', '.join(unused)}"] if unused else []
    if dataset.near_duplicates is None:
        notes.append("many rows are nearly alike, so near duplicates are kept (near_duplicates: null)")
    if not dataset.one_answer:
        notes.append("many prompts have several answers, so they are kept (one_answer: false)")
    return dataset, problems, notes


def block(name: str, dataset: Dataset, comment: str = "") -> str:
    """The entry of ``dataset`` in params.yaml, to stand under ``data:``; defaults are left out."""
    settings = dataset.model_dump(mode="json", exclude_defaults=True)
    lines = [f"  {name}:{f' # {comment}' if comment else ''}"]
    for key, value in settings.items():
        flow = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False).removesuffix("...\n").strip()
        lines.append(f"    {key}: {flow}")
    return "\n".join(lines) + "\n"


def add_to_params(name: str, entry: str, path: Path = params.PATH) -> None:
    """Put ``entry`` under ``data:``; all else, comments included, stays as it is.

    Raises ParamsError where there is a data set of that name already, or no section to put it in.
    """
    before = params.read(path)
    data = params.load(dict, "data", path=path)
    if name in data:
        raise ParamsError(
            f"{path}: data.{name} is there already", fix="give another name with --name, or edit it there"
        )
    text = path.read_text() if "data" in before else f"{path.read_text().rstrip()}\n\ndata:\n"
    changed = re.sub(r"^data:.*\n", lambda begins: begins[0] + entry, text, count=1, flags=re.MULTILINE)
    expected = {**before, "data": {**data, **yaml.safe_load(entry)}}
    try:
        if yaml.safe_load(changed) == expected:
            return files.write_text(path, changed)
    except yaml.YAMLError:
        pass  # as where `data` is written on one line
    raise ParamsError(f"{path}: could not be changed without touching other values", fix="paste the block by hand")


def _plan(kind: RowKind, verifier: str | None) -> list[str]:
    """What training on rows of ``kind`` takes here. Without a base there is nothing to import torch for."""
    if not BASE.is_dir():
        return [f"`tunesmith plan --kind {kind} --model NAME` says what training a model on them takes"]
    from tunesmith.cli import plan

    return plan.short(kind, verifier)


def dataset_name(path: Path) -> str:
    """A name for the data set in a file, as a stage can have it."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", path.name.split(".")[0]).strip("_")
    return name if re.match("[A-Za-z]", name) else f"data_{name}"


def _settings(path: Path, sort: Sort, held_out: Path, max_bad_share: float) -> dict[str, object]:
    return {
        "path": path,
        "kind": sort.kind,
        "columns": None,
        "system": None,
        "verifier": sort.verifier if sort.kind == "answers" else None,
        "one_answer": True,
        "near_duplicates": 0.8,
        "held_out": {"path": held_out, "overlap": 0.7},
        "max_length": None,
        "splits": {"validation": 0.05, "test": 0.1},
        "limit": {"train": None, "validation": None, "test": None},
        "max_bad_share": max_bad_share,
    }


def _not_ready(main: Sort | None) -> str:
    if main is None:
        return "no row of it could be read"
    if main.what == UNKNOWN:
        return (
            "most of its rows are of no layout that is known; say which columns hold what in data.<dataset>.columns, "
            "as in {prompt: my_column, completion: '{{ reasoning }} {{ result }}'}"
        )
    return main.what


def _shorten(text: str) -> str:
    """A text on one line, its middle left out where it is long; secrets are masked first, lest one be half shown."""
    shown = " ".join(text_scan.mask_secrets(text).split())
    return shown if len(shown) <= WIDTH else shown[: WIDTH // 2] + " … " + shown[-WIDTH // 2 :]


def describe(path: Path | str, advice: Advice) -> list[str]:
    """The advice as lines for people."""
    lines = [f"{path}: {advice.rows:,} rows"]
    for sort in advice.sorts:
        lines += ["", f"{sort.rows:,} × {sort.line()}"]
        lines += [f"  line {line}: {' → '.join(map(_shorten, parts))}" for line, parts in sort.examples]
    if advice.unreadable:
        lines += ["", f"{advice.unreadable:,} × not readable"]
    if advice.problems:
        lines += ["", "set aside, if you train on it:"]
        first = {problem.check: problem for problem in reversed(advice.problems)}
        for check, count in Counter(problem.check for problem in advice.problems).most_common():
            why = first[check].reason.removeprefix(f"{check}: ")
            lines.append(f"  {count:,} × {check}, first in line {first[check].line}: {why}")
    if advice.notes:
        lines += ["", *(f"note: {note}" for note in advice.notes)]
    if advice.reason is not None:
        lines += ["", f"not ready: {advice.reason}"]
    return lines
