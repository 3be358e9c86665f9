"""`tunesmith advise`: the rows of a file, their problems, how to train on them, and the params to prepare them."""

import math
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from tunesmith.cli.survey import UNKNOWN, RowGroup, survey
from tunesmith.core import files, params
from tunesmith.core.errors import DataError, ParamsError
from tunesmith.core.ready_rows import RowKind
from tunesmith.data import prepare, readers, text_scan
from tunesmith.data.contamination import HeldOut
from tunesmith.data.dataset import Dataset, check_name
from tunesmith.data.records import Problem
from tunesmith.reports import data_page

WIDTH = 100
"""Characters of an example."""
MAX_DEFECTS = 0.05
"""Share of rows above which duplicates and conflicting answers count as a property of the data, not as defects."""
RAW, HELD_OUT, BASE = Path("data/raw"), Path("data/held_out"), Path("models/base")


@dataclass(frozen=True)
class Advice:
    """Advice on a file.

    groups: largest first. unreadable: number of rows that could not be read. dataset: params to prepare the largest
    group. problems: the rows that would be set aside. reason: the reason why the data set is not ready, or None.
    """

    groups: list[RowGroup]
    unreadable: int
    dataset: Dataset | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reason: str | None = None

    @property
    def rows(self) -> int:
        return self.unreadable + sum(group.rows for group in self.groups)

    @property
    def bad(self) -> int:
        """The number of rows that would be set aside for a defect."""
        return sum(problem.check not in prepare.NOT_BAD for problem in self.problems)


def run(file: str, *, write: bool, name: str | None) -> None:
    """Print the advice on a file, local or on the hub. write: add the data set to params.yaml.

    Raises DataError, and neither prints nor writes params, for rows that are not ready.
    """
    path, comment = Path(file), ""
    if file.startswith("hub:"):
        from tunesmith.cli import hub_file

        source, path = hub_file.fetch(hub_file.parse(file))
        comment = str(source)
    name = check_name(name or dataset_name(path))
    advice = advise(path, HELD_OUT)
    print("\n".join(describe(comment or path, advice)))
    dataset = advice.dataset
    if dataset is None or advice.reason is not None:
        raise DataError(f"{file}: not ready: {advice.reason}", fix=_fix(name, advice))
    print("\n".join(["", *_plan(dataset.kind or "answers", advice.groups[0].verifier)]))
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
    print(f"  dvc repro prepare_data@{name}   prepare it; reports/data/{name}.html lists its problems")
    if dataset.kind == "answers":
        print(f"  sft: {{NAME: {{dataset: {name}}}}}   in params.yaml trains a model NAME on it")


def advise(path: Path, held_out: Path, max_bad_share: float = 0.01) -> Advice:
    """Read all of ``path`` and return the advice. Raises DataError where it cannot be read."""
    groups, unreadable = survey(path)
    main = groups[0] if groups else None
    if not groups and not unreadable:
        raise DataError(f"{path}: the file has no rows", fix=readers.EMPTY)
    if main is None or main.kind is None:
        return Advice(groups, unreadable, reason=_not_ready(main))
    dataset = Dataset(
        path=path,
        kind=main.kind,
        verifier=main.verifier if main.kind == "answers" else None,
        near_duplicates=0.8,
        held_out=HeldOut(path=held_out),
        max_bad_share=max_bad_share,
    )
    try:
        dataset, problems, notes = _try(dataset)
    except DataError:  # no row is good, perhaps because every prompt has several answers
        try:
            dataset, problems, notes = _try(dataset.model_copy(update={"one_answer": False}))
        except DataError as error:
            return Advice(groups, unreadable, reason=error.reason)
    advice = Advice(groups, unreadable, dataset, problems, notes)
    if advice.bad <= max_bad_share * advice.rows:
        return advice
    reason = f"{advice.bad:,} of {advice.rows:,} rows are bad, more than {100 * max_bad_share:g}%"
    return replace(advice, reason=reason)


def _try(dataset: Dataset) -> tuple[Dataset, list[Problem], list[str]]:
    """Check the rows as `prepare_data` would; return params that fit them, the problems that remain, and notes.

    Where many rows are similar, or give several answers to a prompt, the params allow it.
    """
    held_out = dataset.held_out
    if not held_out.path.exists():  # not run in a project
        held_out = HeldOut(path=dataset.path, overlap=1)
    tolerant = dataset.model_copy(update={"max_bad_share": 1.0, "held_out": held_out})
    with prepare.check_file(tolerant, special_tokens=text_scan.GENERAL_TOKENS, lengths=None) as checked:
        problems, total = checked.problems, checked.total
        unused = data_page.unused_columns(dataset, checked)
    share = {check: count / total for check, count in Counter(problem.check for problem in problems).items()}
    if dataset.near_duplicates is not None and share.get("near duplicate", 0) > MAX_DEFECTS:
        return _try(dataset.model_copy(update={"near_duplicates": None}))
    if dataset.one_answer and share.get("conflicting answers", 0) > MAX_DEFECTS:
        return _try(dataset.model_copy(update={"one_answer": False}))
    notes = [f"columns not used: {', '.join(unused)}"] if unused else []
    if dataset.near_duplicates is None:
        notes.append("many rows are similar, so near duplicates are kept (near_duplicates: null)")
    if not dataset.one_answer:
        notes.append("many prompts have several answers, so they are kept (one_answer: false)")
    return dataset, problems, notes


def block(name: str, dataset: Dataset, comment: str = "") -> str:
    """The entry of ``dataset`` under ``data:`` in params.yaml, without defaults."""
    settings = dataset.model_dump(mode="json", exclude_defaults=True)
    lines = [f"  {name}:{f' # {comment}' if comment else ''}"]
    for key, value in settings.items():
        lines.append(f"    {key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def add_to_params(name: str, entry: str, path: Path = params.PATH) -> None:
    """Add ``entry`` under ``data:``, and change nothing else, comments included.

    Raises ParamsError where there is a data set of that name already, or where the text cannot be edited safely.
    """
    before = params.read(path)
    data = params.load(dict, "data", path=path)
    if name in data:
        raise ParamsError(
            f"{path}: data.{name} is there already", fix="choose another name with --name, or edit the entry"
        )
    text = path.read_text() if "data" in before else f"{path.read_text().rstrip()}\n\ndata:\n"
    changed = re.sub(r"^data:.*\n", lambda heading: heading[0] + entry, text, count=1, flags=re.MULTILINE)
    expected = {**before, "data": {**data, **yaml.safe_load(entry)}}
    try:
        if yaml.safe_load(changed) == expected:
            files.write_text(path, changed)
            return
    except yaml.YAMLError:
        pass  # such as `data` on one line
    raise ParamsError(f"{path}: could not be changed without touching other values", fix="paste the entry by hand")


def _plan(kind: RowKind, verifier: str | None) -> list[str]:
    """The plan of a training on rows of ``kind``; without a base model, torch is not imported."""
    if not BASE.is_dir():
        return [f"`tunesmith plan --kind {kind} --model NAME` predicts what training a model on them takes"]
    from tunesmith.cli import plan

    return plan.short(kind, verifier)


def dataset_name(path: Path) -> str:
    """A name for the data set in a file that is valid in the name of a stage."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", path.name.split(".")[0]).strip("_")
    return name if re.match("[A-Za-z]", name) else f"data_{name}"


def _not_ready(main: RowGroup | None) -> str:
    if main is None:
        return "none of its rows could be read"
    if main.description == UNKNOWN:
        return (
            "most of its rows have an unknown layout; name their columns in data.<dataset>.columns, as in "
            "{prompt: my_column, completion: '{{ reasoning }} {{ result }}'}"
        )
    return main.description


def _fix(name: str, advice: Advice) -> str:
    """The fix for rows that are not ready."""
    if advice.dataset is None:
        return "give every row what it lacks, then run advise again"
    share = math.ceil(100 * advice.bad / advice.rows) / 100
    entry = advice.dataset.model_copy(update={"max_bad_share": share}).model_dump(mode="json", exclude_defaults=True)
    return (
        "correct or remove them (they are counted above), then run advise again; to set so many aside, add by hand "
        f"data: {{{name}: {_flow(entry)}}}"
    )


def _flow(value: object) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False).removesuffix("...\n").strip()


def _shorten(text: str) -> str:
    """A text on one line, without its middle if it is long; secrets are masked first, so that none is half visible."""
    line = " ".join(text_scan.mask_secrets(text).split())
    return line if len(line) <= WIDTH else line[: WIDTH // 2] + " … " + line[-WIDTH // 2 :]


def describe(path: Path | str, advice: Advice) -> list[str]:
    """The advice as lines to print."""
    lines = [f"{path}: {advice.rows:,} rows"]
    for group in advice.groups:
        lines += ["", f"{group.rows:,} × {group.line()}"]
        lines += [f"  line {line}: {' → '.join(map(_shorten, parts))}" for line, parts in group.examples]
    if advice.unreadable:
        lines += ["", f"{advice.unreadable:,} × not readable"]
    if advice.problems:
        lines += ["", "set aside, if you train on it:"]
        first = {problem.check: problem for problem in reversed(advice.problems)}
        for check, count in Counter(problem.check for problem in advice.problems).most_common():
            reason = first[check].reason.removeprefix(f"{check}: ")
            lines.append(f"  {count:,} × {check}, first in line {first[check].line}: {reason}")
    if advice.notes:
        lines += ["", *(f"note: {note}" for note in advice.notes)]
    return lines
