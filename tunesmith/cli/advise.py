"""`tunesmith advise`: the rows of a file, their problems, how to train on them, and the params to prepare them."""

import math
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import yaml

from tunesmith.cli import places
from tunesmith.cli.survey import UNKNOWN, RowGroup, survey
from tunesmith.core import files, layout, params
from tunesmith.core.errors import DataError, ParamsError
from tunesmith.core.formatting import printable
from tunesmith.core.ready_rows import RowKind
from tunesmith.data import layouts, prepare, readers, text_scan
from tunesmith.data.dataset import Dataset, check_name
from tunesmith.data.formats import service_files
from tunesmith.data.images.settings import Seen
from tunesmith.data.readers import Files
from tunesmith.data.records import Fields, Problem, Record
from tunesmith.data.repeats.contamination import HeldOut
from tunesmith.reports.data_set import data_report

WIDTH = 100
"""Characters of an example."""
MAX_DEFECTS = 0.05
"""Share of rows above which duplicates and conflicting answers count as a property of the data, not as defects."""
HELD_OUT, BASE = Path("data/held_out"), Path("models/base")


@dataclass(frozen=True)
class Advice:
    """Advice on a file.

    groups: largest first. unreadable: number of rows that could not be read. dataset: params to prepare the largest
    group. problems: the rows that would be set aside. reason: the reason why the data set is not ready, or None.
    images: those of its rows.
    """

    groups: list[RowGroup]
    unreadable: int
    dataset: Dataset | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reason: str | None = None
    images: Seen = field(default_factory=Seen)

    @property
    def rows(self) -> int:
        return self.unreadable + sum(group.rows for group in self.groups)

    @property
    def bad(self) -> int:
        """The number of rows that would be set aside for a defect."""
        return sum(problem.check not in prepare.NOT_BAD for problem in self.problems)


def run(place: str, *, write: bool, name: str | None) -> None:
    """Print the advice on a file, a folder, a pattern of files or a data set on the hub.

    write: add the data set to params.yaml, and bring its files here from the hub. Raises DataError, and neither prints
    nor writes params, for rows that are not ready.
    """
    name = check_name(name or dataset_name(place))
    dataset, found = places.find(place, name)
    advice = advise(dataset, found, HELD_OUT)
    print(printable("\n".join(describe(found, advice)), lines=True))
    if advice.dataset is None or advice.reason is not None:
        raise DataError(f"{place}: not ready: {advice.reason}", fix=_fix(name, advice))
    dataset = advice.dataset
    brings = dataset.source is not None
    if layout.holds_outputs(folder := dataset.path):
        dataset, brings = places.copied(dataset, found, name), True
        print(f"\nstages write into {folder}, so --write copies the rows and their images to {dataset.path}")
    print("\n".join(["", *_plan(dataset.kind or "answers", advice.groups[0].verifier)]))
    entry = block(name, dataset)
    if not write:
        print(f"\nin params.yaml, under data: (--write puts it there)\n\n{entry}", end="")
        return
    text = with_entry(name, entry)
    if brings:
        places.bring(found, dataset.path, dataset.images)
    files.write_text(params.PATH, text)
    print(f"\nparams.yaml: data.{name} added; next:")
    print(f"  dvc repro prepare_data@{name}   prepare it; reports/data/{name}.html lists its problems")
    section, start = {
        "answers": ("sft", ""),
        "preferences": ("dpo", ", start: MODEL"),
        "marks": ("kto", ", start: MODEL"),
    }.get(dataset.kind or "", ("", ""))
    if section:
        print(f"  {section}: {{NAME: {{dataset: {name}{start}}}}}   in params.yaml trains a model NAME on it")


def advise(dataset: Dataset, found: Files, held_out: Path, max_bad_share: float = 0.01) -> Advice:
    """Read all files of a data set, of which the place is known, and return the advice.

    Raises DataError where a file cannot be read.
    """
    groups, unreadable = survey(found)
    main = groups[0] if groups else None
    if not groups and not unreadable:
        raise DataError(f"{found.name}: no rows", fix=readers.EMPTY)
    first = next((record.fields for record in readers.read(found.paths[0]) if isinstance(record, Record)), {})
    if main is None or main.kind is None or main.description == layouts.CHAT:
        reason = _of_reinforcement(first)
        if reason or main is None or main.kind is None:
            return Advice(groups, unreadable, reason=reason or _not_ready(main))
    dataset = dataset.model_copy(
        update={
            "kind": main.kind,
            "near_duplicates": None if main.kind == "marks" else 0.8,  # a slip alone may make an answer a bad one
            "neutral_rating": main.neutral_rating,
            "verifier": main.verifier if main.kind == "answers" or main.needs_verifier else None,
            "held_out": HeldOut(path=held_out),
            "max_bad_share": max_bad_share,
        }
    )
    try:
        dataset, problems, notes, images = _try(dataset, found)
    except DataError:  # no row is good, perhaps because every prompt has several answers
        try:
            dataset, problems, notes, images = _try(dataset.model_copy(update={"one_answer": False}), found)
        except DataError as error:
            return Advice(groups, unreadable, reason=error.reason)
    rated = main.kind in ("preferences", "marks")  # by their own columns, which are no answers of a reinforcement file
    service = None if rated and service_files.answers(first) else service_files.name(first)
    known = [f"this is {service}"] if service else []
    notes = [*known, *notes, *_about_marks(main)]
    advice = Advice(groups, unreadable, dataset, problems, notes, images=images)
    if advice.bad <= max_bad_share * advice.rows:
        return advice
    reason = f"{advice.bad:,} of {advice.rows:,} rows are bad, more than {100 * max_bad_share:g}%"
    return replace(advice, reason=reason)


def _try(dataset: Dataset, found: Files) -> tuple[Dataset, list[Problem], list[str], Seen]:
    """Check the rows as `prepare_data` would; return params that fit them, the problems that remain, notes, and what
    is known of images.

    Where many rows are similar, or give several answers to a prompt, the params allow it.
    """
    held_out = dataset.held_out
    if not held_out.path.exists():  # not run in a project
        held_out = HeldOut(path=found.paths[0], overlap=1)
    tolerant = dataset.model_copy(update={"max_bad_share": 1.0, "held_out": held_out})
    with prepare.check_files(tolerant, found, special_tokens=text_scan.GENERAL_TOKENS, lengths=None) as checked:
        problems, total, ignored = checked.problems, checked.total, checked.files.ignored
        account = data_report.account(dataset, checked)
        personal, images = data_report.personal(dataset, checked), checked.images
    share = {check: count / total for check, count in Counter(problem.check for problem in problems).items()}
    if dataset.near_duplicates is not None and share.get("near duplicate", 0) > MAX_DEFECTS:
        return _try(dataset.model_copy(update={"near_duplicates": None}), found)
    if dataset.one_answer and share.get("conflicting answers", 0) > MAX_DEFECTS:
        return _try(dataset.model_copy(update={"one_answer": False}), found)
    notes = [f"not read: {found.listed(ignored)}"] if ignored else []
    notes += [*account, *personal, *images.lines()]
    if dataset.near_duplicates is None and dataset.kind != "marks":
        notes.append("many rows are similar, so near duplicates are kept (near_duplicates: null)")
    if not dataset.one_answer:
        notes.append("many prompts have several answers, so they are kept (one_answer: false)")
    return dataset, problems, notes, images


def _about_marks(group: RowGroup) -> list[str]:
    """Notes on the marks of answers, or on the rule that makes marks of ratings."""
    if (neutral := group.neutral_rating) is not None:
        return [
            f"answers are rated {group.low:g} to {group.high:g}: above {neutral:g}, half-way, they are marked good, "
            "below it bad (neutral_rating)"
        ]
    if group.kind == "marks" and group.good in (0, group.rows):
        side = "good, which SFT imitates (kind: answers)" if group.good else "bad"
        return [f"all answers are marked {side}: KTO needs both"]
    return []


def block(name: str, dataset: Dataset) -> str:
    """The entry of ``dataset`` under ``data:`` in params.yaml, without defaults."""
    settings = dataset.model_dump(mode="json", exclude_defaults=True)
    lines = [f"  {name}:"]
    for key, value in settings.items():
        lines.append(f"    {key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def with_entry(name: str, entry: str, path: Path = params.PATH) -> str:
    """The text of params.yaml with ``entry`` under ``data:``, and nothing else changed, comments included.

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
            return changed
    except yaml.YAMLError:
        pass  # such as `data` on one line
    raise ParamsError(f"{path}: could not be changed without touching other values", fix="paste the entry by hand")


def _plan(kind: RowKind, verifier: str | None) -> list[str]:
    """The plan of a training on rows of ``kind``; without a base model, torch is not imported."""
    if not BASE.is_dir():
        return [f"`tunesmith plan --kind {kind} --model NAME` predicts what training a model on them takes"]
    from tunesmith.cli import plan

    return plan.short(kind, verifier)


def dataset_name(place: str) -> str:
    """A name for the data set in a file, a folder, a pattern or a repository that is valid in the name of a stage."""
    last = re.split("[@:]", place)[1].replace(".", "_") if place.startswith("hub:") else place
    parts = [part for part in PurePath(last).parts if re.search("[A-Za-z0-9]", part.split(".")[0])]
    name = re.sub(r"[^A-Za-z0-9_]+", "_", (parts or [""])[-1].split(".")[0]).strip("_")
    return name if re.match("[A-Za-z]", name) else f"data_{name}"


def _of_reinforcement(fields: Fields) -> str | None:
    """Why a reinforcement file of a service is not ready; None for any other file."""
    columns = service_files.answers(fields)
    if not columns:
        return None
    return (
        f"{service_files.name(fields)}: name the column that its graders compare with, of {', '.join(columns)}, and "
        f"the verifier that compares: columns: {{prompt: messages, completion: {columns[0]}}}, verifier: exact"
    )


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


def describe(found: Files, advice: Advice) -> list[str]:
    """The advice as lines to print."""
    within = f" in {len(found.paths):,} files" if len(found.paths) > 1 else ""
    lines = [f"{found.name}: {advice.rows:,} rows{within}"]
    for group in advice.groups:
        lines += ["", f"{group.rows:,} × {group.line()}"]
        lines += [
            f"  {found.place(file, line)}: {' → '.join(map(_shorten, parts))}" for file, line, parts in group.examples
        ]
    if advice.unreadable:
        lines += ["", f"{advice.unreadable:,} × not readable"]
    if advice.problems:
        lines += ["", "set aside, if you train on it:"]
        first = {problem.check: problem for problem in reversed(advice.problems)}
        for check, count in Counter(problem.check for problem in advice.problems).most_common():
            reason, place = (
                first[check].reason.removeprefix(f"{check}: "),
                found.place(first[check].file, first[check].line),
            )
            lines.append(f"  {count:,} × {check}, first in {place}: {reason}")
    if advice.notes:
        lines += ["", *(f"note: {note}" for note in advice.notes)]
    return lines
