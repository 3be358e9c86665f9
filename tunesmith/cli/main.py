"""The command line: options and help of every command. Commands import inside, so that `--help` is fast."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunesmith.core import cpus
from tunesmith.core.errors import TunesmithError

if TYPE_CHECKING:
    from tunesmith.core.ready_rows import RowKind
    from tunesmith.models.engines.locks import Build


class Commands(click.Group):
    """Commands whose errors, if the user can correct them, are messages without a traceback, with exit status 1."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except TunesmithError as error:
            raise SystemExit(f"error: {error}") from None
        except ModuleNotFoundError as error:
            from tunesmith.core import extras

            if (missing := extras.missing(error)) is None:
                raise
            raise SystemExit(f"error: {missing}") from None


@click.group(cls=Commands)
@click.version_option(package_name="tunesmith")
@click.pass_context
def main(context: click.Context) -> None:
    """Fine-tune a language model and stand behind the result.

    `dvc repro` runs the pipeline; these commands plan it, show its results and promote its models.
    """
    if context.invoked_subcommand != "reproduce":  # its stages would take these variables for the user's own
        os.environ |= cpus.environment()  # torch reads them when a command imports it


@main.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--data", help="Rows to learn from: a file, a folder, or hub:OWNER/NAME[:PART]. Asked for if left out.")
@click.option("--base", help="Base model: OWNER/NAME[@REVISION] on the model hub, or a folder. Default: SmolLM2-135M.")
@click.option(
    "--weights",
    type=click.Choice(["auto", "lora", "qlora", "full"]),
    default="auto",
    show_default=True,
    help="Weights that train; auto takes the lightest that fit this machine.",
)
@click.option("--suites/--no-suites", default=None, help="Whether models also answer the default suites. Default: yes.")
@click.option("--update", is_flag=True, help="Apply what this version changes in the pipeline of a project.")
def init(folder: Path, data: str | None, base: str | None, weights: str, suites: bool | None, update: bool) -> None:
    """Make FOLDER of your git repository a project.

    Writes params.yaml with what was chosen, dvc.yaml, stages/ and ignore files, and overwrites nothing. In a project,
    shows what this version would change in its pipeline.
    """
    from tunesmith.cli import init

    init.run(folder, data=data, base=base, weights=weights, suites=suites, update=update)


@main.command()
def check() -> None:
    """Check params.yaml before anything runs."""
    from tunesmith.cli import check

    click.echo(check.summary(check.check()))


@main.command("params")
@click.argument("section", required=False)
@click.option("--all", "everything", is_flag=True, help="Include the sections that params.yaml leaves out.")
def show_params(section: str | None, everything: bool) -> None:
    """Print the effective params, defaults marked.

    Prints every section of params.yaml, or only SECTION, such as gate or sft.sft-lora.
    """
    from tunesmith.cli import params

    params.run(section, everything=everything)


@main.command()
@click.argument("data")
@click.option("--write", is_flag=True, help="Add the data set to params.yaml; of one on the hub, also bring the files.")
@click.option("--name", help="Name of the data set in params.yaml. Default: that of the file, folder or repository.")
def advise(data: str, write: bool, name: str | None) -> None:
    """Describe the rows of DATA, and how to train on them.

    Lists their problems, and prints the entry of params.yaml that prepares them. DATA is a file, a folder, a pattern in
    quotes ('data/raw/chat-*.jsonl.gz'), or a data set on the hub: hub:OWNER/NAME[@REVISION][:PART], where PART is
    CONFIGURATION/SPLIT, a file, a pattern or a folder. Files are JSONL, JSON, CSV or Parquet, plain or compressed (.gz,
    .zst). Exits with 1 where the rows are not ready.
    """
    from tunesmith.cli import advise

    advise.run(data, write=write, name=name)


@main.command()
@click.argument("repo")
@click.option("--dataset", is_flag=True, help="REPO is a data set: print its address for `tunesmith advise`.")
def pin(repo: str, dataset: bool) -> None:
    """Write the commit of REPO into params.yaml.

    REPO is OWNER/NAME on the model hub, or OWNER/NAME@REVISION for a branch or a tag, which a commit does not follow.
    """
    from tunesmith.cli import pin

    pin.run(repo, dataset=dataset)


@main.command()
@click.option(
    "--model",
    help="A folder, a config.json, a hub repository, or a name such as llama-3.1-8b. Default: models/base.",
)
@click.option(
    "--gpu",
    metavar="NAME|GB",
    help="A card such as h100 or rtx-4090, or the memory of one in GB. Default: this machine's hardware.",
)
@click.option("--gpus", type=click.IntRange(min=1), help="Number of such GPUs in a machine.")
@click.option("--length", type=click.IntRange(min=1), help="Length of a sequence in tokens.")
@click.option("--rank", type=click.IntRange(min=1), help="Rank of LoRA.")
@click.option(
    "--kind",
    type=click.Choice(["answers", "preferences", "marks", "scored"]),
    help="Kind of your rows. Default: every kind.",
)
@click.option("--entries", is_flag=True, help="Plan the trainings of params.yaml, from their ready rows.")
def plan(
    model: str | None,
    gpu: str | None,
    gpus: int | None,
    length: int | None,
    rank: int | None,
    kind: "RowKind | None",
    entries: bool,
) -> None:
    """Predict the memory and the speed of every training method.

    Shows memory part by part, the largest batch that fits, tokens a second, and the lightest method that does the job;
    for several GPUs, what fits on each and what must be sharded over them.
    Reads no weights, and uses no network for a config that is on this machine. Exits with 1 where nothing fits.
    """
    from tunesmith.cli import plan

    fits = plan.run(model, gpu=gpu, gpus=gpus, length=length, rank=rank, kind=kind, entries=entries)
    raise SystemExit(0 if fits else 1)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--verifier", required=True, help="Name of a verifier, such as number.")
def verify(file: Path, verifier: str) -> None:
    """Grade the answers in FILE.

    Prints a verdict a line, then the mean score. A row has its `completion` and the columns that the verifier needs, as
    in reports/evaluation/<model>/samples.jsonl. In any other data set, the rows' own answers are graded.
    """
    from tunesmith.cli import verify

    verify.run(file, verifier)


@main.command()
@click.argument("model")
@click.option("--against", default="base", show_default=True, help="Model to compare with.")
@click.option(
    "--pairs",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Ready preference rows on which the judge is measured first, such as data/ready/NAME/test.jsonl.",
)
@click.option("--limit", default=100, show_default=True, help="Limit on prompts and on pairs; each takes two requests.")
def judge(model: str, against: str, pairs: Path, limit: int) -> None:
    """Ask a judge which of two models answers better.

    The judge in params.yaml is first measured on labelled pairs, and must agree with them well enough.
    """
    from tunesmith.cli import judge

    judge.run(model, against=against, pairs=pairs, limit=limit)


@main.command()
def results() -> None:
    """Compare every model with the base, in one table."""
    from tunesmith.cli import results

    results.show()


@main.command()
@click.argument("training")
@click.argument("more", nargs=-1, metavar="[PARAM=VALUES]...")
@click.option("--over", multiple=True, metavar="PARAM=VALUES", help="Values to try: A,B,C or LOW:HIGH or LOW:HIGH:log.")
@click.option("--trials", default=12, show_default=True, type=click.IntRange(min=1), help="Number of trials in all.")
@click.option(
    "--by",
    type=click.Choice(["loss", "accuracy", "score"]),
    help="Measurement to choose by. Default: the one by which a training keeps its best step.",
)
@click.option("--parallel", default=1, show_default=True, type=click.IntRange(min=1), help="Trials at a time.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of the sampler.")
@click.option("--no-stopping", "prune", flag_value=False, default=True, help="Let bad trials run to their end, too.")
@click.option(
    "--apply", "applies", is_flag=True, help="Put the chosen params into params.yaml; alone: the last sweep's."
)
def sweep(
    training: str,
    more: tuple[str, ...],
    over: tuple[str, ...],
    trials: int,
    by: str | None,
    parallel: int,
    seed: int,
    prune: bool,
    applies: bool,
) -> None:
    """Try values of the params of TRAINING, such as sft.sft-lora, and choose on the validation split.

    Every trial is a DVC experiment; bad ones are stopped early. `--over` takes several params, as in --over
    'lora.rank=8,16,32' 'learning_rate=1e-4:1e-2:log'. The same command goes on with a sweep that was interrupted, or
    adds trials to one that is done.
    """
    from tunesmith.cli import sweep

    values = (*over, *more)
    sweep.run(training, values, by=by, trials=trials, parallel=parallel, seed=seed, prune=prune, applies=applies)


@main.command()
@click.argument("which")
@click.option("--to", "alias", default="champion", show_default=True, help="Alias to move.")
@click.option("--reason", help="Reason, kept in the history; required for a model that did not pass the gate.")
def promote(which: str, alias: str, reason: str | None) -> None:
    """Make WHICH the champion.

    WHICH is a model's name, such as sft-lora, for its newest version, or a version number. Its bytes, its signature and
    the gate's decision are checked, and it is served for a moment: its answers must be those of its evaluation.
    """
    from tunesmith.cli import promote

    promote.promote(which, alias=alias, reason=reason)


@main.command()
@click.option("--of", "alias", default="champion", show_default=True, help="Alias to move.")
@click.option("--reason", help="Reason, kept in the history.")
def rollback(alias: str, reason: str | None) -> None:
    """Promote the previous champion again, with the same checks."""
    from tunesmith.cli import promote

    promote.rollback(alias=alias, reason=reason)


@main.command()
@click.option(
    "--accept", metavar="REASON", help="Go on with the history as it is, without entries that were seen before."
)
@click.option("--restart", metavar="REASON", help="Set a history aside that cannot be verified any more.")
def history(accept: str | None, restart: str | None) -> None:
    """Show every promotion: when, by whom and why.

    Exits with 1 where the history was edited, or lacks entries that this project, or its team, has seen.
    """
    from tunesmith.cli import promote

    promote.history(accept=accept, restart=restart)


@main.command()
@click.argument("which")
@click.option("--verify", is_flag=True, help="Check every digest that can be reached from this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with whole digests.")
def lineage(which: str, verify: bool, as_json: bool) -> None:
    """Show the origin of WHICH as a tree.

    WHICH is a model's name, for its newest version, a version number, or an alias, such as @champion. With --verify,
    exits with 1 where something differs from its record.
    """
    from tunesmith.cli import lineage

    raise SystemExit(0 if lineage.run(which, verify=verify, as_json=as_json) else 1)


@main.command()
@click.argument("which")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    help="New folder for the work tree. Default: a temporary folder.",
)
@click.option("--keep", is_flag=True, help="Keep the work tree; it is always kept where the model differs.")
@click.option(
    "--anyway", is_flag=True, help="Go on where the model was trained with uncommitted changes or another version."
)
def reproduce(which: str, into: Path | None, keep: bool, anyway: bool) -> None:
    """Train the version WHICH again from its commit.

    Works in a separate work tree. Exits with 1 where the model differs.
    """
    from tunesmith.cli import reproduce

    raise SystemExit(0 if reproduce.run(which, into, keep=keep, anyway=anyway) else 1)


@main.command()
@click.option("--clear-checkpoints", is_flag=True, help="Remove the checkpoints of trainings that do not run instead.")
def doctor(clear_checkpoints: bool) -> None:
    """Check that this machine and this project work.

    Checks libraries, params, git, DVC, disk, GPU, sandbox, containers, vLLM, tracker, keys, the base model and
    trainings that are not done, and prints a fix for every problem. Exits with 1 where something will not work.
    """
    from tunesmith.cli.doctor import command

    if clear_checkpoints:
        command.clear_checkpoints()
        return
    raise SystemExit(0 if command.run() else 1)


@main.group(invoke_without_command=True)
@click.pass_context
def engine(context: click.Context) -> None:
    """Show which vLLM would be used, and whether it fits; `engine install` makes its environment.

    Exits with 1 where it will not work.
    """
    if context.invoked_subcommand is None:
        context.invoke(show_engine)


@engine.command("show")
def show_engine() -> None:
    """Show which vLLM would be used, and whether it fits this machine."""
    from tunesmith.cli import engine

    raise SystemExit(0 if engine.show() else 1)


@engine.command("install")
@click.option("--build", type=click.Choice(["cuda", "cpu"]), help="Hardware to install for. Default: this machine's.")
@click.option(
    "--cpu-index", metavar="ADDRESS", help="Index of PyTorch's CPU builds, where pip is configured with none."
)
def install_engine(build: "Build | None", cpu_index: str | None) -> None:
    """Install vLLM from its lock, in an environment of its own.

    Does nothing where it is installed; begins again what was interrupted.
    """
    from tunesmith.cli import engine

    engine.install(build, cpu_index)


@main.command()
@click.argument("name", default="tunesmith")
@click.option("--context", is_flag=True, help="Print the folder for `docker build` instead.")
def image(name: str, context: bool) -> None:
    """Set the image that stages run in.

    Writes the present digest of the image NAME into params.yaml, as runtime.image. Another image is another result, so
    every stage that runs in it runs again.
    """
    if context:
        from tunesmith.runtime.image import context as folder  # without the client of Docker

        click.echo(folder())
        return
    from tunesmith.cli import image

    image.run(name)


@main.command()
@click.argument("which", nargs=-1)
@click.option("--port", type=click.IntRange(0, 65535), help="Port instead of serve.port; 0 takes a free one.")
@click.option("--host", help="Address to bind instead of serve.host; in a container, 0.0.0.0.")
@click.option("--wait", is_flag=True, help="Wait for the first champion where there is none yet.")
def serve(which: tuple[str, ...], port: int | None, host: str | None, wait: bool) -> None:
    """Serve WHICH at an OpenAI-compatible address: by default @champion.

    WHICH is an alias such as @champion, which is followed, a model's name, or a version number; several are chosen by
    the model that a request names. A version gets requests once every byte is checked and its answers are those of its
    evaluation.
    """
    from tunesmith.serving import command

    command.run(which or ("@champion",), port, host, wait)


@main.command()
@click.option("--port", default=5000, show_default=True, help="Port on this machine.")
def ui(port: int) -> None:
    """Open the MLflow UI on the registry; Ctrl-C ends it."""
    from tunesmith.cli import ui

    ui.run(port)
