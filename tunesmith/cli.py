"""The command line. Imports are made inside the commands, so that `tunesmith --help` answers at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from tunesmith.errors import TunesmithError


@click.group()
@click.version_option(package_name="tunesmith")
def main() -> None:
    """Fine-tune a language model and stand behind the result.

    The pipeline itself is `dvc repro`; these commands show what it made, and promote it.
    """


@main.command()
def check() -> None:
    """Look over params.yaml before anything runs (`make repro` does)."""
    from tunesmith.check import check as look_over

    with told():
        click.echo(f"params.yaml: in order; data sets: {', '.join(look_over())}")


@main.command()
@click.argument("file")
@click.option("--write", is_flag=True, help="Put the block into params.yaml.")
@click.option("--name", help="Of the data set in params.yaml; by default, the file's.")
def advise(file: str, write: bool, name: str | None) -> None:
    """Say what the rows of FILE are, what is wrong with them, and what they can train.

    FILE is JSONL, JSON, CSV or Parquet, plain or compressed (.gz, .zst), or hub:OWNER/NAME@COMMIT[:FILE].
    """
    from tunesmith import advice

    with told():
        advice.run(file, write=write, name=name)


@main.command()
@click.option(
    "--model", help="A folder, a config.json, a hub repository, or a name such as llama-3.1-8b; else models/base."
)
@click.option("--gpu", type=click.FloatRange(min=0, min_open=True), help="GB of a GPU; else what is here.")
@click.option("--length", type=click.IntRange(min=1), help="Tokens of a sequence.")
@click.option("--rank", type=click.IntRange(min=1), help="Of LoRA.")
@click.option("--kind", type=click.Choice(["answers", "preferences", "scored"]), help="Of your rows; else all.")
def plan(model: str | None, gpu: float | None, length: int | None, rank: int | None, kind: Any) -> None:
    """Predict what every method takes: memory part by part, what fits, and the lightest that does the job.

    No weights are read, and no network is used for a config that is here.
    """
    from tunesmith import plan as planning

    with told():
        planning.run(model, gpu=gpu, length=length, rank=rank, kind=kind)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--verifier", required=True, help="Such as number; see tunesmith/verifiers.")
def verify(file: str, verifier: str) -> None:
    """Grade the answers in FILE: a verdict a line, and what they come to.

    A row brings its `completion` and what the verifier needs, as reports/<model>/samples.jsonl does; of any other data
    set the own answers are graded.
    """
    from pathlib import Path

    from tunesmith import grading

    with told():
        grading.run(Path(file), verifier)


@main.command()
@click.argument("model")
@click.option("--against", default="base", show_default=True, help="Another model.")
@click.option(
    "--pairs",
    default="data/ready/demo_pairs/test.jsonl",
    show_default=True,
    type=click.Path(exists=True, dir_okay=False),
    help="Ready preference rows that the judge is measured on first.",
)
@click.option("--limit", default=100, show_default=True, help="Prompts, and pairs; each is two requests.")
def judge(model: str, against: str, pairs: str, limit: int) -> None:
    """Ask the judge in params.yaml whose answers are better, MODEL's or another's, if it can be believed."""
    from pathlib import Path

    from tunesmith import judging

    with told():
        judging.run(model, against=against, pairs=Path(pairs), limit=limit)


@main.command()
def results() -> None:
    """Show base against tuned: score, cost, what is registered."""
    from tunesmith import results as tables

    with told():
        tables.show()


@main.command()
@click.argument("which")
@click.option("--reason", help="Why; required for a model that did not pass the gate.")
def promote(which: str, reason: str | None) -> None:
    """Make WHICH the champion: a model's name, such as sft-lora (its newest version), or a version number."""
    from tunesmith import params, promotion
    from tunesmith.publishing import Names
    from tunesmith.registry import Registry

    with told():
        names = params.load(Names, "registry")
        made = promotion.promote(Registry(names.experiment), names.model, which, reason=reason)
        before = f"version {made.previous}" if made.previous else "none"
        click.echo(f"champion of {names.model}: version {made.version} ({made.model}); before: {before}")
        click.echo(f"  why: {made.why}\n  evidence: {made.evidence}\n  digest: {made.digest}")
        click.echo("`tunesmith history` shows every promotion.")


@main.command()
def history() -> None:
    """Show what was promoted, when, by whom and why."""
    from tunesmith import params, promotion
    from tunesmith.publishing import Names
    from tunesmith.registry import Registry

    with told():
        names = params.load(Names, "registry")
        entries = promotion.history(Registry(names.experiment), names.model)
        if not entries:
            click.echo("nothing has been promoted yet; `tunesmith promote MODEL` does")
        for entry in entries:
            before = f"version {entry.previous}" if entry.previous else "none"
            click.echo(f"{entry.when}  {entry.who}  champion: {before} -> version {entry.version} ({entry.model})")
            click.echo(f"    why: {entry.why}\n    evidence: {entry.evidence}\n    digest: {entry.digest}")


@main.command()
@click.option("--port", default=5000, show_default=True)
def ui(port: int) -> None:
    """Open the MLflow UI on the registry (Ctrl-C ends it)."""
    import os
    import sys

    from tunesmith.registry import ARTIFACTS, tracking_uri

    uri = tracking_uri()
    if uri.startswith(("http:", "https:")):
        click.echo(f"the registry is a server already: {uri}")
        return
    # Server-side jobs and unpickling would let a request run code; nothing here needs them.
    os.environ |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    click.echo(f"MLflow UI on http://127.0.0.1:{port}", err=True)
    where = ["--backend-store-uri", uri, "--default-artifact-root", str(ARTIFACTS.resolve())]
    server = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [*server, *where])


@contextmanager
def told() -> Iterator[None]:
    """Print an error that the user can mend as its message alone, and exit with status 1."""
    try:
        yield
    except TunesmithError as error:
        raise SystemExit(f"error: {error}") from None
