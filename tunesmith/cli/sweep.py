"""`tunesmith sweep`: try values of a training's params as DVC experiments, and choose on the validation split."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunesmith.core import extras, files, formatting, params
from tunesmith.core.errors import ParamsError
from tunesmith.project import document
from tunesmith.reports import sweep_page
from tunesmith.reports.sweep_page import SweepReport
from tunesmith.sweeps import apply, plan, space, store, tree
from tunesmith.sweeps.plan import Plan

COLOURS = {"finished": "", "stopped": "dim", "failed": "red"}
WIDTH = 120
"""Characters a line where the output is a file or a pipe."""
STOPS = "Once four trials were finished, one was stopped when it fell behind their median at the same measurement."
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to end."""
UNSTOPPED = "No trial was stopped for its measurements."


def run(
    place: str,
    over: tuple[str, ...],
    *,
    by: str | None,
    trials: int,
    parallel: int,
    seed: int,
    prune: bool,
    applies: bool,
) -> None:
    """Run or go on with a sweep, print its table, and write its report. applies: also put the choice into params.yaml.

    Raises as `plan.make` and `sweep.Sweep.run` do.
    """
    root = Path.cwd()
    if not over and applies:
        entry = plan.find(document.load(), place)[1]
        return _apply(entry)
    extras.check("optuna")
    planned = plan.make(root, place, over, by)
    name = store.name(planned, seed)
    with files.only_writer(store.folder(name)), interruptible():
        report = _run(root, planned, name, trials=trials, parallel=parallel, seed=seed, prune=prune)
    page = store.write(report)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table(report))
    console.print(report["why"], soft_wrap=True)
    console.print(f"{page}: no trial was evaluated on the test split", soft_wrap=True)
    if report["chosen"] is None:
        return None
    if applies:
        return _apply(planned.entry)
    console.print("next:", style="bold")
    steps = {
        f"tunesmith sweep {planned.place} --apply": "put its params into params.yaml; `dvc repro` evaluates it alone",
        "make experiments" if Path("Makefile").exists() else "dvc exp show --only-changed": "see the trials",
        f"dvc exp apply {report['chosen']}": "or go to the state of any trial",
    }
    width = max(map(len, steps))
    for step, what in steps.items():
        console.print(f"  {step:{width}}  {what}")
    return None


def _run(root: Path, planned: Plan, name: str, *, trials: int, parallel: int, seed: int, prune: bool) -> SweepReport:
    from tunesmith.sweeps.study import Study
    from tunesmith.sweeps.sweep import Sweep

    study = Study(
        store.study(name), name, planned.space, lower_is_better=planned.lower_is_better, seed=seed, prune=prune
    )
    raw = params.read_unchecked(root / params.PATH)
    print(f"{name}: {trials} trials of {planned.place}, {len(study.outcomes)} of them already run", flush=True)
    tree.prepare(root, planned.target)
    rows = plan.check_rows(planned.dataset)
    with ExitStack() as stack:
        runners = [
            stack.enter_context(tree.laid(root, f"{name}-{number}", planned, store.folder(name), devices))
            for number, devices in enumerate(_devices(parallel), 1)
        ]
        sweep = Sweep(
            planned,
            study,
            runners,
            trials,
            check=lambda values: plan.check(raw, values, params.PATH),
            say=lambda line: print(line, flush=True),
        )
        results = sweep.run()
    chosen = sweep_page.choose(results, lower_is_better=planned.lower_is_better)
    return {
        "name": name,
        "training": planned.place,
        "by": planned.by,
        "lower_is_better": planned.lower_is_better,
        "dataset": planned.dataset,
        "rows": rows,
        "commit": planned.commit,
        "sampler": study.sampler,
        "stops": STOPS if prune else UNSTOPPED,
        "space": {dimension.param: space.described(dimension) for dimension in planned.space},
        "trials": results,
        "chosen": chosen and chosen["name"],
        "why": sweep_page.why(results, planned.by, lower_is_better=planned.lower_is_better),
    }


@contextmanager
def interruptible() -> Iterator[None]:
    """End the running trials, and exit, on Ctrl-C and where this process is asked to end.

    Further signals are ignored: they would leave trials running.
    """

    def end(number: int, _: object) -> None:
        for further in ENDS:
            signal.signal(further, signal.SIG_IGN)
        raise KeyboardInterrupt

    earlier = {number: signal.signal(number, end) for number in ENDS}
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: running trials were ended; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _devices(parallel: int) -> list[str | None]:
    """The devices of each runner: all that are visible, or its share of those that CUDA_VISIBLE_DEVICES lists.

    Raises ParamsError where it lists fewer than there are runners.
    """
    listed = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    if parallel == 1 or not listed:
        return [None] * parallel
    if len(listed) < parallel:
        raise ParamsError(
            f"--parallel {parallel}: CUDA_VISIBLE_DEVICES lists {len(listed)} devices",
            fix="run as many trials at a time as there are devices, or fewer",
        )
    return [",".join(listed[start::parallel]) for start in range(parallel)]


def _apply(entry: str) -> None:
    reports = store.reports(entry)
    placed = apply.winner(reports)
    print(f"params.yaml: {', '.join(f'{place} {space.shown(value)}' for place, value in placed.items())}")
    print(f"  chosen by {reports[-1]['name']}; `dvc repro` restores its model and evaluates it on the test split")


def table(report: SweepReport) -> Table:
    """The trials of a sweep, in order: values, measurement, outcome, time."""
    title = f"{report['name']}: {report['training']} on {report['rows']} validation rows of {report['dataset']}"
    grid = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("experiment", no_wrap=True)
    for column in (*report["space"], f"validation {report['by']}", "step"):
        grid.add_column(column, justify="right", no_wrap=True)
    grid.add_column("outcome")
    grid.add_column("time", justify="right", no_wrap=True)
    for trial in report["trials"]:
        is_chosen = trial["name"] == report["chosen"]
        style = "bold green" if is_chosen else COLOURS[trial["state"]]
        grid.add_row(
            Text(trial["name"], style=style),
            *(space.shown(trial["values"][param]) for param in report["space"]),
            sweep_page.number(trial["value"]),
            str(trial["step"]) if trial["step"] is not None else formatting.NONE,
            Text("chosen" if is_chosen else f"{trial['state']}: {trial['reason']}".removesuffix(": "), style=style),
            formatting.seconds(trial["seconds"]),
        )
    return grid
