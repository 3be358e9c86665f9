"""`tunesmith plan`: print the predicted memory and speed of every training method; `tunesmith advise` ends with a short
form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tunesmith.core import formatting, params
from tunesmith.core.errors import BaseModelError, ParamsError
from tunesmith.core.params import Objective
from tunesmith.core.ready_rows import RowKind
from tunesmith.data import row_kinds
from tunesmith.planning import hardware, methods, rates, sharding, speed
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
    "communication": "comm",
    "framework": "frame",
}
"""Headings of the columns, by the part of a `Memory`."""
LEGEND = (
    "GB; dim rows do not fit. peak: of a step, below the sum of its parts, since they do not all coincide. fits: "
    "the largest batch × tokens that fit into the model at once. recompute: whether layers are computed again in "
    "the backward pass, since the method would not fit otherwise."
)
SEVERAL_LEGEND = (
    "All of it is of each GPU, but tok/s of all. sharded: no: each GPU holds the whole model, and gradients are "
    "averaged (DDP). yes: each holds a share of weights, gradients and optimizer, and gathers a layer when it computes "
    "(FSDP2), since the method would not fit otherwise. comm: gathered layers, and gradients that are being exchanged."
)
NO_RATES = "no speed: its rates are not known; name the card (`--gpu h100`, `--gpu rtx-4090`) for tokens a second."


def run(
    model: str | None,
    *,
    gpu: str | None,
    gpus: int | None,
    length: int | None,
    rank: int | None,
    kind: RowKind | None,
    entries: bool,
) -> bool:
    """Print the plan; return whether any method fits. gpu: the name of a card, or memory in GB. gpus: how many of them
    one machine has; None for those of this machine, or one. entries: the trainings of params.yaml instead of every
    method.

    Raises BaseModelError for an unknown model, ParamsError for bad params or an unknown card.
    """
    shape, length, rank = _settings(model, length, rank)
    machine = _machine(gpu, gpus)
    console, known = Console(highlight=False), rates.of(machine)
    if entries:
        return _show_entries(console, shape, machine, known)
    title = f"{shape.name}: {_count(shape.parameters)} parameters; {length:,} tokens, LoRA of rank {rank}"
    console.print(f"{title}; {_resources(machine)}", style="bold", soft_wrap=True)
    objectives = methods.objectives_of_kinds([kind] if kind else list(row_kinds.KINDS))
    groups = methods.survey(shape, objectives, machine, length=length, rank=rank)
    rows = [row for group in groups for row in group]
    _show(console, groups, {row.name: speed.predict(shape, row.workload, known) for row in rows} if known else {})
    console.print(_measured_on(known, machine) if known else NO_RATES, style="dim")
    for line in verdict(shape, groups, machine):
        console.print(line, soft_wrap=True)
    if shape.vision is not None:
        console.print(
            "The base reads images, and reward models read text alone: no reward, and no RLHF.", soft_wrap=True
        )
    if kind is None:
        console.print("The labels of your rows decide which objective applies: `tunesmith advise FILE` names it.")
    return any(methods.lightest(group) is not None for group in groups)


def _show_entries(console: Console, shape: Shape, machine: Hardware, known: Rates | None) -> bool:
    from tunesmith.cli import plan_entries  # TRL, which takes seconds to import

    machine = replace(machine, count=1)  # `training.fit` decides for one process
    sizes = f"{_count(shape.parameters)} parameters; {_resources(machine)}"
    console.print(f"{shape.name}: {sizes}", style="bold", soft_wrap=True)
    fits = plan_entries.show(console, document.load(), shape, machine, known)
    console.print(_measured_on(known, machine) if known else NO_RATES, style="dim")
    return fits


def _machine(gpu: str | None, gpus: int | None) -> Hardware:
    """The hardware of the options."""
    if gpu is not None:
        return rates.gpu(gpu, gpus or 1)
    machine = hardware.detect()
    if gpus is None:
        return machine
    if machine.machine.device == "cpu":
        raise ParamsError(f"--gpus {gpus}: this machine has no GPU", fix="say which: --gpu h100, or its GB, --gpu 80")
    return replace(machine, count=gpus)


def _resources(machine: Hardware) -> str:
    """The devices and their memory, in words."""
    return f"{machine.devices}: {formatting.size(machine.budget)}{' each' if machine.count > 1 else ''}"


def short(kind: RowKind, verifier: str | None) -> list[str]:
    """The plan in a few lines, for rows of ``kind`` and the project's base; empty where the rows train no objective."""
    objectives = methods.objectives_of_rows(kind, verifier)
    if not objectives:
        return []
    (shape, length, rank), machine = _settings(None, None, None), hardware.detect()
    groups = methods.survey(shape, objectives, machine, length=length, rank=rank)
    each = " each" if machine.count > 1 else ""
    resources = f"{machine.devices} ({formatting.size(machine.budget)}{each}) and {length:,} tokens at most"
    more = f"  `tunesmith plan --kind {kind}` shows every method, part by part"
    lines = (f"  {line}" for line in verdict(shape, groups, machine))
    return [f"to train {BASE} on them, with {resources}:", *lines, more]


def verdict(shape: Shape, groups: Sequence[Sequence[Method]], machine: Hardware) -> list[str]:
    """The method to start with for every objective and the reason, a sentence each, and a sentence on full weights."""
    best = [(group, methods.lightest(group)) for group in groups]
    lines = []
    for kind, shared in product(("lora", "qlora"), ("none", "full")):
        choices = [
            method
            for _, method in best
            if method is not None and (method.workload.weights, method.workload.sharding) == (kind, shared)
        ]
        if choices:
            sizes = ", ".join(
                f"{OBJECTIVE_NAMES[method.workload.objective]} ({_largest(method)})" for method in choices
            )
            over = f", sharded over {machine.count} GPUs," if shared == "full" else ""
            name = WEIGHTS_NAMES[choices[0].workload.weights]
            lines.append(f"{name}{over} is the lightest that does the job for {sizes}: {_why(choices)}")
    unfit = [group for group, method in best if method is None]
    if unfit:
        names = ", ".join(OBJECTIVE_NAMES[group[0].workload.objective] for group in unfit)
        least = formatting.size(min(method.memory.total for group in unfit for method in group))
        lines.append(
            f"Nothing fits {machine.devices} for {names}: it would take {least}{_each(machine)}. Take a smaller model, "
            "or shorter sequences (--length)."
        )
    return [*lines, _full_weights(shape, groups, machine)]


def _full_weights(shape: Shape, groups: Sequence[Sequence[Method]], machine: Hardware) -> str:
    """The sentence on training all weights."""
    full = [method for group in groups for method in group if method.workload.weights == "full"]
    least = min(full, key=lambda method: method.memory.total)
    price = f"Training all weights would take {formatting.size(least.memory.total)}{_each(machine)} or more"
    if machine.count > 1 and not least.fits:
        needed = sharding.least_processes(shape, least.workload, machine.budget)
        price += f", and {needed} such GPUs" if needed else ""
    return f"{price}: do not start there."


def _each(machine: Hardware) -> str:
    return " of each GPU" if machine.count > 1 else ""


def _largest(method: Method) -> str:
    largest = method.largest
    assert largest is not None
    shorter = f" of {largest.length:,} tokens" if largest.length < method.workload.length else ""
    several = " a GPU" if largest.processes > 1 else ""
    return f"up to {largest.batch:,} {UNITS[largest.objective]}{shorter} at once{several}"


def _why(choices: Sequence[Method]) -> str:
    if choices[0].workload.weights == "qlora":
        reason = "unquantized, the base leaves too little room"
    elif choices[0].workload.sharding == "full":
        reason = "each GPU holds a share of the unquantized base, and quantizing it would slow every step"
    else:
        reason = "the base fits unquantized, and quantizing it would slow every step"
    return f"{reason}; {_count(choices[0].trainable)} parameters train, {formatting.size(choices[0].artifact)} on disk."


def _measured_on(known: Rates, machine: Hardware) -> str:
    """The sentence that says what the speeds are computed from."""
    model, device = (
        ("Llama 3.1 8B", "an H100") if known.share == speed.TRAINING_SHARE["cuda"] else ("SmolLM2", "2 cores")
    )
    links = (
        f" A step takes no less than its exchanges, at {speed.LINK_SHARE:.0%} of {known.link / 1e9:,.0f} GB/s each way."
        if machine.count > 1
        else ""
    )
    return (
        f"tok/s: tokens trained a second, from the rates of {known.name}, of which SFT LoRA of {model} reached "
        f"{known.share:.0%} on {device}; no other method was measured.{links} Rollouts take their time too; loading, "
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
    several = any(row.workload.processes > 1 for row in rows)
    console.print(f"{LEGEND} {SEVERAL_LEGEND}" if several else LEGEND, style="dim")


def _table(rows: Sequence[Method], parts: Sequence[str], speeds: Mapping[str, Speed], *, results: bool) -> Table:
    """A row a method: its parts and its peak in GB; with ``results`` also its largest fitting batch, its sizes and its
    speed.
    """
    headings = [*(PARTS[part] for part in parts), "peak"]
    several = any(row.workload.processes > 1 for row in rows)
    if results:
        headings += [*(["sharded"] if several else []), "recompute", "fits", "trains", "on disk"]
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
            choices = [row.workload.sharding == "full"] * several + [row.workload.machine.checkpointing]
            cells += ["yes" if chosen else "no" for chosen in choices]
            cells += [largest, _count(row.trainable), formatting.size(row.artifact)]
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
