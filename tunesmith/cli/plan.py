"""What training a model takes, method by method: `tunesmith plan`, and the end of `tunesmith advise`."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tunesmith.core import formatting, params
from tunesmith.core.errors import BaseModelError
from tunesmith.core.ready_rows import Kind
from tunesmith.data import row_kinds
from tunesmith.planning import hardware, methods
from tunesmith.planning.hardware import Hardware
from tunesmith.planning.methods import NAMES, WEIGHTS, Candidate
from tunesmith.planning.model_shape import KNOWN, Shape, read
from tunesmith.planning.workload import Objective

BASE = Path("models/base")
LENGTH, RANK = 1024, 16
"""Tokens of a sequence, and LoRA's rank, where neither an option nor params.yaml says more."""
UNITS: dict[Objective, str] = {
    "sft": "sequences",
    "dpo": "pairs",
    "reward": "pairs",
    "rlhf": "answers",
    "grpo": "answers",
}
PARTS = {
    "weights": "weights",
    "gradients": "grads",
    "optimizer": "optim",
    "activations": "activ",
    "logits": "logits",
    "kv_cache": "KV",
    "reference": "ref",
    "reward_model": "reward",
    "framework": "frame",
}
"""Part of a `Memory` -> the head of its column."""
LEGEND = (
    "GB; dim does not fit. peak: of a step; not all parts are there at once, so it is less than their sum. fits: the "
    "most that goes through at once, batch × tokens."
)


def run(model: str | None, *, gpu: float | None, length: int | None, rank: int | None, kind: Kind | None) -> None:
    """Print the plan. gpu: GB. Raises BaseModelError where the model is not known, ParamsError where params are bad."""
    shape, length, rank = _given(model, length, rank)
    found = hardware.here() if gpu is None else hardware.gpu(gpu)
    wanted = methods.offered([kind] if kind else list(row_kinds.KINDS))
    groups = methods.survey(shape, wanted, found, length=length, rank=rank)
    console = Console(highlight=False)
    title = f"{shape.name}: {_count(shape.parameters)} parameters; {length:,} tokens, LoRA of rank {rank}"
    console.print(f"{title}; {found.name}: {formatting.size(found.budget)}", style="bold", soft_wrap=True)
    _show(console, groups)
    for line in verdict(groups, found):
        console.print(line, soft_wrap=True)
    if kind is None:
        console.print("Your rows' labels decide which of these objectives is yours: `tunesmith advise FILE`.")


def short(kind: Kind, verifier: str | None) -> list[str]:
    """The plan in a few lines, for rows of ``kind`` and the project's base; none where they train nothing yet."""
    wanted = methods.allowed(kind, verifier)
    if not wanted:
        return []
    (shape, length, rank), found = _given(None, None, None), hardware.here()
    groups = methods.survey(shape, wanted, found, length=length, rank=rank)
    title = (
        f"to train {BASE} on them, with {found.name} ({formatting.size(found.budget)}) and {length:,} tokens at most:"
    )
    more = f"  `tunesmith plan --kind {kind}` shows every method, part by part"
    return [title, *(f"  {line}" for line in verdict(groups, found)), more]


def verdict(groups: Sequence[Sequence[Candidate]], found: Hardware) -> list[str]:
    """Which method to start with, for every objective, and why: a sentence for each answer, and one on all weights."""
    best = [(group, methods.lightest(group)) for group in groups]
    lines = []
    for weights in ("lora", "qlora"):
        chosen = [one for _, one in best if one is not None and one.run.weights == weights]
        if chosen:
            sizes = ", ".join(f"{NAMES[one.run.objective]} ({_most(one)})" for one in chosen)
            lines.append(f"{WEIGHTS[weights]} is the lightest that does the job for {sizes}: {_why(chosen)}")
    nothing = [group for group, one in best if one is None]
    if nothing:
        names = ", ".join(NAMES[group[0].run.objective] for group in nothing)
        least = formatting.size(min(one.memory.total for group in nothing for one in group))
        lines.append(
            f"Nothing fits {found.name} for {names}: it would take {least}. Take a smaller model, or shorter sequences "
            "(--length)."
        )
    full = min(one.memory.total for group in groups for one in group if one.run.weights == "full")
    return [*lines, f"Training all weights would take {formatting.size(full)} or more: not where to start."]


def _most(candidate: Candidate) -> str:
    most = candidate.largest
    assert most is not None
    shorter = f" of {most.length:,} tokens" if most.length < candidate.run.length else ""
    return f"up to {most.batch:,} {UNITS[most.objective]}{shorter} at once"


def _why(chosen: Sequence[Candidate]) -> str:
    if chosen[0].run.weights == "qlora":
        reason = "unquantized, the base leaves too little room"
    else:
        reason = "the base fits as it is, and quantizing it would slow every step"
    return f"{reason}; {_count(chosen[0].trainable)} parameters train, {formatting.size(chosen[0].artifact)} on disk."


def _show(console: Console, groups: Sequence[Sequence[Candidate]]) -> None:
    """One table, or two where the terminal is narrow."""
    rows = [candidate for group in groups for candidate in group]
    parts = [part for part in PARTS if any(getattr(row.memory, part) for row in rows)]
    whole = _table(rows, parts, results=True)
    wide = console.options.update(max_width=999)
    fits = console.measure(whole, options=wide).maximum <= console.width
    for table in [whole] if fits else [_table(rows, parts, results=False), _table(rows, [], results=True)]:
        console.print(table)
    console.print(LEGEND, style="dim")


def _table(rows: Sequence[Candidate], parts: Sequence[str], *, results: bool) -> Table:
    """A row a method: its parts and its peak in GB; with ``results`` also what fits, trains, and is saved."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    grid.add_column("method", no_wrap=True)
    for head in [*(PARTS[part] for part in parts), "peak", *(("fits", "trains", "on disk") if results else ())]:
        grid.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        held = {part: getattr(row.memory, part) for part in parts}
        if parts:
            held["weights"] += row.memory.adapter
        cells = [_gigabytes(count) for count in (*held.values(), row.memory.total)]
        if results:
            most = "no" if row.largest is None else f"{row.largest.batch:,} × {row.largest.length:,}"
            cells += [most, _count(row.trainable), formatting.size(row.artifact)]
        grid.add_row(row.name, *cells, style="" if row.fits else "dim", end_section=row.run.weights == "full")
    return grid


def _has_base() -> bool:
    return (BASE / "config.json").exists()


def _given(model: str | None, length: int | None, rank: int | None) -> tuple[Shape, int, int]:
    """What is asked for; what is not, from the project where its own base is meant, else what is usual."""
    if model is None and not _has_base():
        raise BaseModelError(
            f"no model is named, and there is no {BASE} here",
            fix="name one (`tunesmith plan --model NAME`): a folder, a config.json, a hub repository, or one of "
            f"{', '.join(KNOWN)}; `dvc repro fetch_base` brings the project's own",
        )
    project = params.PATH.exists()
    if rank is None:
        rank = params.load(int, "lora.rank") if project else RANK
    if length is None:
        length = params.load(int, "sft.max_length") if project and model is None else LENGTH
    shape = read(model or str(BASE))
    return shape, min(length, shape.positions), rank


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"


def _gigabytes(count: int) -> str:
    value = count / 1e9
    if not count:
        return formatting.NONE
    return f"{value:.{0 if value >= 99.5 else 1 if value >= 0.095 else 2}f}"
