"""The command line. Imports are made inside the commands, so that `tunesmith --help` answers at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from tunesmith.core import cpus
from tunesmith.core.errors import TunesmithError

if TYPE_CHECKING:
    from tunesmith.core.ready_rows import RowKind


@click.group()
@click.version_option(package_name="tunesmith")
@click.pass_context
def main(context: click.Context) -> None:
    """Fine-tune a language model and stand behind the result.

    The pipeline itself is `dvc repro`; these commands show what it made, and promote it.
    """
    if context.invoked_subcommand != "reproduce":  # whose stages would take it for what the user has set
        os.environ |= cpus.environment()  # torch reads it when a command imports it


@main.command()
def check() -> None:
    """Look over params.yaml before anything runs (`make repro` does)."""
    from tunesmith.cli.check import check as look_over

    with told():
        project = look_over()
        models = [*project.models, *project.reward]
        click.echo(f"params.yaml: in order; data sets: {', '.join(project.data)}; models: {', '.join(models)}")


@main.command("params")
@click.argument("section", required=False)
@click.option("--all", "everything", is_flag=True, help="Also the sections that params.yaml leaves out.")
def show_params(section: str | None, everything: bool) -> None:
    """Print the effective params, with defaults marked: all, or those of SECTION, such as gate or sft.sft-lora."""
    from tunesmith.cli import params

    with told():
        params.run(section, everything=everything)


@main.command()
@click.argument("file")
@click.option("--write", is_flag=True, help="Put the block into params.yaml.")
@click.option("--name", help="Of the data set in params.yaml; by default, the file's.")
def advise(file: str, write: bool, name: str | None) -> None:
    """Say what the rows of FILE are, what is wrong with them, and what they can train.

    FILE is JSONL, JSON, CSV or Parquet, plain or compressed (.gz, .zst), or hub:OWNER/NAME@COMMIT[:FILE].
    """
    from tunesmith.cli import advise

    with told():
        advise.run(file, write=write, name=name)


@main.command()
@click.option(
    "--model", help="A folder, a config.json, a hub repository, or a name such as llama-3.1-8b; else models/base."
)
@click.option("--gpu", type=click.FloatRange(min=0, min_open=True), help="GB of a GPU; else what is here.")
@click.option("--length", type=click.IntRange(min=1), help="Tokens of a sequence.")
@click.option("--rank", type=click.IntRange(min=1), help="Of LoRA.")
@click.option("--kind", type=click.Choice(["answers", "preferences", "scored"]), help="Of your rows; else all.")
def plan(model: str | None, gpu: float | None, length: int | None, rank: int | None, kind: "RowKind | None") -> None:
    """Predict what every method takes: memory part by part, what fits, and the lightest that does the job.

    No weights are read, and no network is used for a config that is here.
    """
    from tunesmith.cli import plan as planning

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

    from tunesmith.cli import verify

    with told():
        verify.run(Path(file), verifier)


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

    from tunesmith.cli import judge

    with told():
        judge.run(model, against=against, pairs=Path(pairs), limit=limit)


@main.command()
def results() -> None:
    """Show base against tuned: score, cost, what is registered."""
    from tunesmith.cli import results as tables

    with told():
        tables.show()


@main.command()
@click.argument("which")
@click.option("--to", "alias", default="champion", show_default=True, help="The alias that is moved.")
@click.option("--reason", help="Why; required for a model that did not pass the gate.")
def promote(which: str, alias: str, reason: str | None) -> None:
    """Make WHICH the champion: a model's name, such as sft-lora (its newest version), or a version number.

    Its bytes, its signature and the gate's decision are checked, and it is served for a moment: it must answer as it
    did when it was evaluated.
    """
    from tunesmith.cli import promote

    with told():
        promote.promote(which, alias=alias, reason=reason)


@main.command()
@click.option("--of", "alias", default="champion", show_default=True, help="The alias that is moved.")
@click.option("--reason", help="Why; the history keeps it.")
def rollback(alias: str, reason: str | None) -> None:
    """Go back to the champion before this one, checked like any other."""
    from tunesmith.cli import promote

    with told():
        promote.rollback(alias=alias, reason=reason)


@main.command()
def history() -> None:
    """Show what was promoted, when, by whom and why; exit with 1 where that was edited."""
    from tunesmith.cli import promote

    with told():
        promote.history()


@main.command()
@click.argument("which")
@click.option("--verify", "check_all", is_flag=True, help="Check every digest that can be reached from here.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, digests whole.")
def lineage(which: str, check_all: bool, as_json: bool) -> None:
    """Show where WHICH comes from: a model's name (its newest version), a version number, or @champion.

    With --verify, exit with 1 where something differs from what was recorded.
    """
    from tunesmith.cli import lineage

    with told():
        raise SystemExit(0 if lineage.run(which, verify=check_all, as_json=as_json) else 1)


@main.command()
@click.argument("which")
@click.option("--into", type=click.Path(file_okay=False), help="A new folder for the work tree; else a temporary one.")
@click.option("--keep", is_flag=True, help="Keep the work tree; it stays anyway where another model came out.")
@click.option("--anyway", is_flag=True, help="Even if the model was made with uncommitted changes.")
def reproduce(which: str, into: str | None, keep: bool, anyway: bool) -> None:
    """Make the version WHICH again from its commit, in a work tree of its own; exit with 1 where another comes out."""
    from pathlib import Path

    from tunesmith.cli import reproduce

    with told():
        raise SystemExit(0 if reproduce.run(which, Path(into) if into else None, keep=keep, anyway=anyway) else 1)


@main.command()
def doctor() -> None:
    """Look over installation, disk, GPU, tracker, keys, sandbox; say what to mend, and exit with 1 where one must."""
    from tunesmith.cli.doctor import command as looking

    with told():
        raise SystemExit(0 if looking.run() else 1)


@main.command()
@click.argument("name", default="tunesmith")
def image(name: str) -> None:
    """Have stages run in the image NAME as it is now: writes its digest into params.yaml, runtime.image.

    Another image is another result: what runs in it runs again.
    """
    from tunesmith.runtime import docker, settings
    from tunesmith.runtime import image as images

    with told():
        digest = docker.resolve(docker.connect(), name)
        images.pin(digest)
        click.echo(f"params.yaml: runtime.image: {digest}")
        if settings.engine() != "docker":
            click.echo("next: set runtime.engine to docker there: engine host runs stages in no image, and refuses one")


@main.command()
@click.argument("which", default="@champion")
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of serve.port; 0 takes any that is free.")
@click.option("--host", help="Instead of serve.host: in a container, 0.0.0.0.")
@click.option("--wait", is_flag=True, help="For the first champion, where there is none yet.")
def serve(which: str, port: int | None, host: str | None, wait: bool) -> None:
    """Serve WHICH through an OpenAI-compatible address: @champion, which is followed, a model's name, or a version.

    Every byte is checked, and it must answer as it did when it was evaluated before it gets a request.
    """
    from tunesmith.serving import supervisor

    with told():
        supervisor.run(which, port, host, wait)


@main.command()
@click.option("--port", default=5000, show_default=True)
def ui(port: int) -> None:
    """Open the MLflow UI on the registry (Ctrl-C ends it)."""
    import sys

    from tunesmith.registry.tracker import artifacts_folder, tracking_uri, without_password

    uri = tracking_uri()
    if uri.startswith(("http:", "https:")):
        click.echo(f"the registry is a server already: {without_password(uri)}")
        return
    # Server-side jobs and unpickling would let a request run code; nothing here needs them.
    os.environ |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri  # it may hold a password, which a list of processes would show
    click.echo(f"MLflow UI on http://127.0.0.1:{port}", err=True)
    where = ["--default-artifact-root", str(artifacts_folder())]
    server = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [*server, *where])


@contextmanager
def told() -> Iterator[None]:
    """Print an error that the user can mend as its message alone, and exit with status 1."""
    try:
        yield
    except TunesmithError as error:
        raise SystemExit(f"error: {error}") from None
