"""`tunesmith plan`: print the predicted memory and speed of every training method; `tunesmith advise` ends with a short
form.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tunesmith.core import formatting, params
from tunesmith.core.errors import BaseModelError
from tunesmith.core.params import Objective
from tunesmith.core.ready_rows import RowKind
from tunesmith.data import row_kinds
from tunesmith.planning import hardware, methods, rates, speed
from tunesmith.planning.hardware import Hardware
from tunesmith.planning.methods import OBJECTIVE_NAMES, WEIGHTS_NAMES, Method
from tunesmith.planning.model_shape import KNOWN, Shape, read
from tunesmith.planning.speed import Rates, Speed
from tunesmith.project import document

BASE = Path("models/base")
LENGTH, RANK = 1024, 16
"""Defaults, without an option or params.yaml, of the length of a sequence in tokens and of LoRA's rank."""
UNITS: dict[Objective, str] = {
    "sft": "sequences",
    "dpo": "pairs",
    "kto": "answers",
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
"""Headings of the columns, by the part of a `Memory`."""
LEGEND = (
    "GB; dim rows do not fit. peak: of a step, below the sum of its parts, since they do not all coincide. fits: "
    "the largest batch × tokens that fit into the model at once. recompute: whether layers are computed again in "
    "the backward pass, since the method would not fit otherwise."
)
NO_RATES = "no speed: its rates are not known; name the card (`--gpu h100`, `--gpu rtx-4090`) for tokens a second."


def run(
    model: str | None, *, gpu: str | None, length: int | None, rank: int | None, kind: RowKind | None, entries: bool
) -> bool:
    """Print the plan; return whether any method fits. gpu: the name of a card, or memory in GB. entries: the trainings
    of params.yaml instead of every method.

    Raises BaseModelError for an unknown model, ParamsError for bad params or an unknown card.
    """
    shape, length, rank = _settings(model, length, rank)
    machine = hardware.detect() if gpu is None else rates.gpu(gpu)
    console, known = Console(highlight=False), rates.of(machine)
    if entries:
        return _show_entries(console, shape, machine, known)
    title = f"{shape.name}: {_count(shape.parameters)} parameters; {length:,} tokens, LoRA of rank {rank}"
    console.print(f"{title}; {machine.name}: {formatting.size(machine.budget)}", style="bold", soft_wrap=True)
    objectives = methods.objectives_of_kinds([kind] if kind else list(row_kinds.KINDS))
    groups = methods.survey(shape, objectives, machine, length=length, rank=rank)
    rows = [row for group in groups for row in group]
    _show(console, groups, {row.name: speed.predict(shape, row.workload, known) for row in rows} if known else {})
    console.print(_measured_on(known) if known else NO_RATES, style="dim")
    for line in verdict(groups, machine):
        console.print(line, soft_wrap=True)
    if kind is None:
        console.print("The labels of your rows decide which objective applies: `tunesmith advise FILE` names it.")
    return any(methods.lightest(group) is not None for group in groups)


def _show_entries(console: Console, shape: Shape, machine: Hardware, known: Rates | None) -> bool:
    from tunesmith.cli import plan_entries  # TRL, which takes seconds to import

    sizes = f"{_count(shape.parameters)} parameters; {machine.name}: {formatting.size(machine.budget)}"
    console.print(f"{shape.name}: {sizes}", style="bold", soft_wrap=True)
    fits = plan_entries.show(console, document.load(), shape, machine, known)
    console.print(_measured_on(known) if known else NO_RATES, style="dim")
    return fits


def short(kind: RowKind, verifier: str | None) -> list[str]:
    """The plan in a few lines, for rows of ``kind`` and the project's base; empty where the rows train no objective."""
    objectives = methods.objectives_of_rows(kind, verifier)
    if not objectives:
        return []
    (shape, length, rank), machine = _settings(None, None, None), hardware.detect()
    groups = methods.survey(shape, objectives, machine, length=length, rank=rank)
    resources = f"{machine.name} ({formatting.size(machine.budget)}) and {length:,} tokens at most"
    more = f"  `tunesmith plan --kind {kind}` shows every method, part by part"
    return [f"to train {BASE} on them, with {resources}:", *(f"  {line}" for line in verdict(groups, machine)), more]


def verdict(groups: Sequence[Sequence[Method]], machine: Hardware) -> list[str]:
    """The method to start with for every objective and the reason, a sentence each, and a sentence on full weights."""
    best = [(group, methods.lightest(group)) for group in groups]
    lines = []
    for kind in ("lora", "qlora"):
        choices = [method for _, method in best if method is not None and method.workload.weights == kind]
        if choices:
            sizes = ", ".join(
                f"{OBJECTIVE_NAMES[method.workload.objective]} ({_largest(method)})" for method in choices
            )
            lines.append(f"{WEIGHTS_NAMES[kind]} is the lightest that does the job for {sizes}: {_why(choices)}")
    unfit = [group for group, method in best if method is None]
    if unfit:
        names = ", ".join(OBJECTIVE_NAMES[group[0].workload.objective] for group in unfit)
        least = formatting.size(min(method.memory.total for group in unfit for method in group))
        lines.append(
            f"Nothing fits {machine.name} for {names}: it would take {least}. Take a smaller model, or shorter "
            "sequences (--length)."
        )
    full = min(method.memory.total for group in groups for method in group if method.workload.weights == "full")
    return [*lines, f"Training all weights would take {formatting.size(full)} or more: do not start there."]


def _largest(method: Method) -> str:
    largest = method.largest
    assert largest is not None
    shorter = f" of {largest.length:,} tokens" if largest.length < method.workload.length else ""
    return f"up to {largest.batch:,} {UNITS[largest.objective]}{shorter} at once"


def _why(choices: Sequence[Method]) -> str:
    if choices[0].workload.weights == "qlora":
        reason = "unquantized, the base leaves too little room"
    else:
        reason = "the base fits unquantized, and quantizing it would slow every step"
    return f"{reason}; {_count(choices[0].trainable)} parameters train, {formatting.size(choices[0].artifact)} on disk."


def _measured_on(known: Rates) -> str:
    """The sentence that says what the speeds are computed from."""
    model, device = (
        ("Llama 3.1 8B", "an H100") if known.share == speed.TRAINING_SHARE["cuda"] else ("SmolLM2", "2 cores")
    )
    return (
        f"tok/s: tokens trained a second, from the rates of {known.name}, of which SFT LoRA of {model} reached "
        f"{known.share:.0%} on {device}; no other method was measured. Rollouts take their time too; loading, "
        "validation and saving come on top."
    )


def _show(console: Console, groups: Sequence[Sequence[Method]], speeds: Mapping[str, Speed]) -> None:
    """Print one table, or two where the terminal is narrow."""
    rows = [method for group in groups for method in group]
    parts = [part for part in PARTS if any(getattr(row.memory, part) for row in rows)]
    table = _table(rows, parts, speeds, results=True)
    fits = console.measure(table, options=console.options.update(max_width=999)).maximum <= console.width
    tables = [table] if fits else [_table(rows, parts, {}, results=False), _table(rows, [], speeds, results=True)]
    for table in tables:
        console.print(table)
    console.print(LEGEND, style="dim")


def _table(rows: Sequence[Method], parts: Sequence[str], speeds: Mapping[str, Speed], *, results: bool) -> Table:
    """A row a method: its parts and its peak in GB; with ``results`` also its largest fitting batch, its sizes and its
    speed.
    """
    headings = [*(PARTS[part] for part in parts), "peak"]
    if results:
        headings += ["recompute", "fits", "trains", "on disk"]
        headings += ["tok/s"] * bool(speeds)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    grid.add_column("method", no_wrap=True)
    for heading in headings:
        grid.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        sizes = {part: getattr(row.memory, part) for part in parts}
        if parts:
            sizes["weights"] += row.memory.adapter
        cells = [_gigabytes(size) for size in (*sizes.values(), row.memory.total)]
        if results:
            largest = "no" if row.largest is None else f"{row.largest.batch:,} × {row.largest.length:,}"
            again = "yes" if row.workload.machine.checkpointing else "no"
            cells += [again, largest, _count(row.trainable), formatting.size(row.artifact)]
            if row.name in speeds and row.largest is not None:
                cells.append(f"{speeds[row.name].tokens_per_second:,.0f}")
        grid.add_row(row.name, *cells, style="" if row.fits else "dim", end_section=row.workload.weights == "full")
    return grid


def _settings(model: str | None, length: int | None, rank: int | None) -> tuple[Shape, int, int]:
    """The shape, length and rank of the options; a missing one comes from the project, else from the defaults."""
    if model is None and not (BASE / "config.json").exists():
        raise BaseModelError(
            f"no model is named, and {BASE} does not exist here",
            fix="name one (`tunesmith plan --model NAME`): a folder, a config.json, a hub repository, or one of "
            f"{', '.join(KNOWN)}; `dvc repro fetch_base` brings the project's own",
        )
    entry = next(iter(document.load().sft.values()), None) if params.PATH.exists() else None
    if rank is None:
        rank = entry.lora.rank if entry else RANK
    if length is None:
        length = entry.max_length if entry and model is None else LENGTH
    shape = read(model or str(BASE))
    return shape, min(length, shape.positions), rank


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"


def _gigabytes(count: int) -> str:
    value = count / 1e9
    if not count:
        return formatting.NONE
    return f"{value:.{0 if value >= 99.5 else 1 if value >= 0.095 else 2}f}"
