"""`tunesmith init`: make a folder of a git repository a project, or show what another version would change in one."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import click

from tunesmith.cli import advise, places
from tunesmith.core import files, git, layout, manifest, params
from tunesmith.core.errors import BaseModelError, DataError, ParamsError
from tunesmith.core.formatting import printable
from tunesmith.core.params import WeightsKind
from tunesmith.core.ready_rows import RowKind
from tunesmith.data.dataset import Dataset, check_name
from tunesmith.models.base import hub
from tunesmith.project import checks, default_suites, document, pipeline_files

SMOLLM2 = "smollm2-135m"
"""The default base, for predictions."""
NEXT = """\
  git add -A && git commit -m 'Tunesmith'   the lineage names the commit
  dvc repro                                 train, evaluate, compare, register
  tunesmith results                         the outcome; `tunesmith promote {model}` makes it the champion"""


@dataclass(frozen=True)
class Choice:
    """What a new project trains. name: of the data set. base: the section base_model, empty for the default.

    suites: whether models also answer the default suites.
    """

    name: str
    dataset: Dataset
    verifier: str | None
    base: str
    weights: WeightsKind
    suites: bool


def run(folder: Path, *, data: str | None, base: str | None, weights: str, suites: bool | None, update: bool) -> None:
    """Make ``folder`` a project, or, where it is one, show or apply what this version would change in its pipeline.

    data: a file, a folder, a pattern of files, or hub:OWNER/NAME[@REVISION][:PART]. base: OWNER/NAME[@REVISION], or a
    folder. weights: auto, lora, qlora or full. suites: whether models also answer the default suites; None asks where
    the data set is asked for, and else means yes. Raises ParamsError where files of the user's own would be overwritten
    or an answer is missing.
    """
    if git.root(folder if folder.exists() else Path.cwd()) is None:
        raise ParamsError(f"{folder.absolute()}: not in a git repository", fix="run `git init` first: lineage needs it")
    if pipeline_files.is_project(folder):
        upgrade(folder, apply=update)
        return
    _check_free(folder)
    if data is not None and not data.startswith("hub:"):
        data = str(Path(data).resolve())
    if base is not None and Path(base).is_dir():
        base = str(Path(base).resolve())
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    text, model, rows = "", "NAME", dict[Path, str]()
    if not params.PATH.exists():
        choice = _choose(*_ask(data, base, suites), weights)
        text, model = params_text(choice, Path.cwd().name), model_name(choice)
        rows = default_suites.contents() if choice.suites else {}
    if not Path(".dvc").exists():
        subprocess.run(["dvc", "init", "--quiet", *([] if Path(".git").exists() else ["--subdir"])], check=True)
    changed = pipeline_files.changes(Path()) | rows
    pipeline_files.write(Path(), changed)
    if text:
        files.write_text(params.PATH, text)
    checks.check(project := document.load())
    print("written: " + ", ".join(map(str, [params.PATH, *sorted({path.parts[0] for path in changed})])))
    versioned = [
        f"  dvc add {dataset.path}" for dataset in project.data.values() if dataset.path.is_relative_to(layout.RAW)
    ]
    print("\n".join(["", "next:", *versioned, NEXT.format(model=model)]))


def upgrade(folder: Path, *, apply: bool) -> None:
    """Print what this version would change in a project's pipeline, and change it if ``apply``."""
    changed = pipeline_files.changes(folder)
    if not changed:
        print(f"{folder}: the pipeline is this version's")
        return
    for path, text in changed.items():
        print(pipeline_files.difference(folder, path, text), end="")
    if not apply:
        print("\nwith --update, `tunesmith init` makes these changes; params.yaml stays as it is")
        return
    if git.root(folder) is not None and not git.committed(folder, list(changed)):
        raise ParamsError(
            "dvc.yaml, stages or ignore files have changes that are not committed, and would lose them",
            fix="commit them, then run again; `git diff` will show what the update changed",
        )
    pipeline_files.write(folder, changed)
    print(f"\n{len(changed)} files updated; `git diff` shows them, `tunesmith check` reads params.yaml as this version")


def params_text(choice: Choice, project: str) -> str:
    """The text of params.yaml: what was chosen, and no default. project: the name of the folder."""
    entry = advise.block(choice.name, choice.dataset)
    name = "".join(character if character.isalnum() or character in "_-" else "-" for character in project)
    training = f"dataset: {choice.name}" + (f", weights: {choice.weights}" if choice.weights != "lora" else "")
    section, suites = "sft", {choice.name: f"verifier: {choice.verifier or 'exact'}"}
    if choice.dataset.kind == "scored":
        section = "grpo"
        training += f", start: base, rewards: {{{choice.verifier}: 1.0}}"
    elif choice.verifier is None:
        suites[f"{choice.name}-likelihood"] = "kind: perplexity"
    lines = "".join(f"    {suite}: {{{how}, dataset: {choice.name}}}\n" for suite, how in suites.items())
    gate = ""
    if choice.suites:
        entry, lines = entry + default_suites.DATA, lines + default_suites.SUITES
        own = list(suites)[-1]  # where answers have no verifier, their likelihood: few are given to the letter
        rule = f"    - {{must: improve, suite: {own}, metric: score, by: 0.0}}\n"
        gate = f"gate: # docs/gate.md\n  rules:\n{rule}{default_suites.RULES}"
    parts = [
        "# What this project chose; `tunesmith params --all` prints the defaults of all that is left out.",
        f"base_model: {choice.base}\n" if choice.base else "",
        f"data:\n{entry}",
        f"{section}:\n  {model_name(choice)}: {{{training}}}\n",
        f"evaluate:\n  suites:\n{lines}",
        gate,
        f"registry: {{experiment: {name}, model: {name}}}\n",
    ]
    return "\n".join(part for part in parts if part)


def model_name(choice: Choice) -> str:
    """The name of the model that is trained: of its objective and weights."""
    return f"{'grpo' if choice.dataset.kind == 'scored' else 'sft'}-{choice.weights}"


def _check_free(folder: Path) -> None:
    """Raise ParamsError where a file of the user's own stands where one of the pipeline would."""
    taken = [path for path in pipeline_files.contents() if path.suffix != ".md" and (folder / path).exists()]
    if taken:
        raise ParamsError(
            f"{', '.join(map(str, taken[:3]))}: there already, of another pipeline; nothing was written",
            fix="choose a folder of its own: `tunesmith init FOLDER`, such as fine-tuning",
        )


def _check_suites_fit(name: str, data: str) -> None:
    """Raise ParamsError where a data set has the name of a default suite, or a file the place of a suite's rows."""
    without = "leave the suites out: --no-suites"
    if name in default_suites.NAMES:
        raise ParamsError(f"{data}: {name} is the name of a default suite", fix=f"rename the rows, or {without}")
    for path, text in default_suites.contents().items():
        if path.exists() and path.read_text() != text:
            raise ParamsError(
                f"{path}: there already, where the rows of a default suite would be; nothing was written",
                fix=f"rename it, or {without}",
            )


def _ask(data: str | None, base: str | None, suites: bool | None) -> tuple[str, str, bool]:
    """The answers that no option gives. Raises ParamsError where nobody can be asked."""
    if data is None and not os.isatty(0):
        raise ParamsError("no data set is named", fix="tunesmith init --data FILE [--base REPO]")
    asked = data is None
    data = data or click.prompt("rows to learn from (a file, a folder, or hub:OWNER/NAME)")
    if base is None and asked:
        base = click.prompt("base model (OWNER/NAME on the hub, or a folder; empty for SmolLM2-135M)", default="")
    if suites is None and asked:
        suites = click.confirm("also ask models whether they follow instructions, refuse and know facts?", default=True)
    return str(data), base or "", suites is not False


def _choose(data: str, base: str, suites: bool, weights: str) -> Choice:
    name = check_name(advise.dataset_name(data))
    if suites:
        _check_suites_fit(name, data)
    place, found = places.find(data, name)
    advice = advise.advise(place, found, layout.HELD_OUT)
    print(printable("\n".join(advise.describe(found, advice)), lines=True))
    if advice.dataset is None or advice.reason:
        raise DataError(f"{data}: not ready: {advice.reason}", fix="correct the rows, then run `tunesmith init` again")
    if advice.images.images:
        _check_reads_images(data, base)
    dataset = advice.dataset
    if dataset.kind in ("preferences", "marks"):
        rows, section = ("pairs", "dpo") if dataset.kind == "preferences" else ("marks", "kto")
        raise DataError(
            f"{data}: {rows} cannot judge what a model answers; a project begins with answers or scored prompts",
            fix=f"init with those first; then `tunesmith advise {data} --write`, and an entry of {section} in "
            "params.yaml",
        )
    if not dataset.source and dataset.path.is_relative_to(Path.cwd()) and not layout.holds_outputs(dataset.path):
        dataset = dataset.model_copy(update={"path": dataset.path.relative_to(Path.cwd())})
    else:
        dataset = places.copied(dataset, found, name)
        places.bring(found, dataset.path, dataset.images)
        print(f"\ncopied to {dataset.path}, where DVC watches the rows and their images")
    section, model = _base(base)
    verifier = advice.groups[0].verifier
    chosen = _weights(model, dataset.kind or "answers", verifier) if weights == "auto" else weights
    return Choice(name, dataset, verifier, section, chosen, suites)  # type: ignore[arg-type]


def _check_reads_images(data: str, base: str) -> None:
    """Raise ParamsError where rows have images and the base is known to read none."""
    from tunesmith.models.base import base_images  # with transformers

    reason = "the default base reads texts alone" if not base else ""
    if Path(base, "config.json").is_file():
        reason = base_images.why_none(Path(base))
    if reason:
        raise ParamsError(
            f"{data}: its rows have images: {reason}",
            fix="name a base that reads images with --base, such as HuggingFaceTB/SmolVLM-256M-Instruct",
        )


def _base(base: str) -> tuple[str, str]:
    """The section base_model, and the model's name for a prediction."""
    if not base:
        return "", SMOLLM2
    if Path(base).is_dir():
        return f"{{path: {base}, sha256: {manifest.folder_digest(Path(base))}}}", base
    repo, _, revision = base.partition("@")
    return f"{{repo: {repo}, commit: {hub.commit(repo, revision or 'main')}}}", repo


def _weights(model: str, kind: RowKind, verifier: str | None) -> WeightsKind:
    """The lightest weights that fit this machine, as `tunesmith plan` finds them; the reason is printed."""
    from tunesmith.cli import plan  # torch
    from tunesmith.planning import hardware, methods, model_shape

    machine = hardware.detect()
    objectives = methods.objectives_of_rows(kind, verifier)[:1]
    shape = model_shape.read(model)
    groups = methods.survey(shape, objectives, machine, length=plan.LENGTH, rank=plan.RANK)
    print("\n".join(["", *plan.verdict(shape, groups, machine)]))
    best = methods.lightest(groups[0])
    if best is None:
        raise BaseModelError(f"{model} does not fit {machine.devices}", fix="take a smaller base, or name --weights")
    return best.workload.weights
