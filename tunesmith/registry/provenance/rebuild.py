"""Make a registered model again, from its commit alone, and say whether it is the same.

On a CPU, the same commit, data and libraries end in the same bytes. On a GPU, or on other hardware or libraries, sums
are added up in another order: there it is the same model where it scores the same, within the noise that the base
shows against itself.
"""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tunesmith.core import dvc_project, files, formatting, git, layout, lineage, manifest, params, ready_rows
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import LineageError
from tunesmith.core.lineage import Lineage
from tunesmith.evaluation import gate
from tunesmith.evaluation.comparison import BASELINE
from tunesmith.registry.provenance import sameness
from tunesmith.registry.provenance.sameness import FileComparison, ScoreComparison, Scores
from tunesmith.registry.provenance.worktree import Worktree, checked_out

SAMPLES, REPEATS = "samples.jsonl", "repeats.jsonl"


@dataclass(frozen=True)
class Original:
    """What is made again. folder: its files, verified. scores: of its evaluation, by suite, where they are known."""

    name: str
    folder: Path
    scores: dict[str, Scores] | None


@dataclass(frozen=True)
class Outcome:
    """measured: scores against scores, where the weights are others. kept: the work tree, if it is still there."""

    name: str
    likeness: FileComparison
    measured: tuple[ScoreComparison, ...]
    kept: Worktree | None

    @property
    def reproduced(self) -> bool:
        alike = self.measured and all(one.within for one in self.measured) and not self.likeness.exact
        return self.likeness.identical or bool(alike)


def reproduce(
    original: Original,
    root: Path,
    *,
    into: Path | None = None,
    keep: bool = False,
    anyway: bool = False,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Make ``original`` again with the repository at ``root``, in a work tree at ``into`` (else a temporary folder).

    The work tree stays where ``keep`` says so, something failed, or another model came out: there is something to
    look at. Raises LineageError where the record does not say enough (``anyway`` goes on if it can), or a stage fails.
    """
    origin = lineage.read(original.folder)
    commit = _commit(original.name, origin, root, anyway=anyway)
    with checked_out(root, commit, into=into, keep=keep) as tree:
        say(f"{original.name}: commit {commit[:12]} checked out in {tree.project}")
        try:
            found = _made_again(original, origin, tree, say)
        except LineageError as error:
            tree.keep = True
            raise LineageError(error.reason, fix=f"{error.fix}; when done, `{tree.removal}`") from None
        tree.keep = keep or not found.reproduced
        return Outcome(found.name, found.likeness, found.measured, tree if tree.keep else None)


def told(outcome: Outcome) -> Iterator[str]:
    """What came out, line by line, the verdict first."""
    found = outcome.likeness
    what = "adapter" if "adapter_config.json" in (*found.same, *found.differ) else "model"
    if found.identical:
        yield f"✓ {outcome.name}: the same {what}, byte for byte: {', '.join(found.same)}"
    elif outcome.reproduced:
        yield f"✓ {outcome.name}: other bytes, the same scores within the measured noise"
    elif found.exact:
        yield f"✗ {outcome.name}: another {what}, though it was made on the same hardware, with the same libraries"
    else:
        yield f"✗ {outcome.name}: another {what}"
    for name in found.differ:
        yield f"  differs: {name}"
    for name in found.expected:
        yield f"  differs as it must: {name} ({sameness.EXPECTED[name]})"
    for change in found.origin:
        yield f"  differs in its lineage: {change.name}: {change.then} → {change.now}"
    for one in outcome.measured:
        if one.missing:
            yield f"  {one.suite}: {one.missing} prompts were graded in one of the two only"
            continue
        floor = "noise floor not measured" if one.floor is None else f"noise floor {100 * one.floor:.1f} points"
        flipped = f"{formatting.percent(one.flipped)} of prompts score otherwise"
        yield f"  {one.suite}: {formatting.percent(one.then)} → {formatting.percent(one.now)}; {floor}; {flipped}"
    if outcome.kept is not None:
        yield f"  the work tree is still there: {outcome.kept.project}; `{outcome.kept.removal}` takes it away"


def _commit(name: str, origin: Lineage, root: Path, *, anyway: bool) -> str:
    """The commit that a model was made from. Raises LineageError where there is none, or it does not say all."""
    commit, is_clean = origin["code"]["commit"], origin["code"]["clean"]
    if commit is None:
        raise LineageError(
            f"{name} was not trained in a git checkout: nothing says by which code",
            fix="train it again in a clone (`dvc repro`), and register that",
        )
    if not git.knows(root, commit):
        raise LineageError(
            f"{name} was trained from commit {commit[:12]}, which {root} does not have",
            fix="fetch the branch that holds it (`git fetch --all`); one never pushed is only where it was made",
        )
    if not is_clean and not anyway:
        raise LineageError(
            f"{name} was trained with changes that were not committed: commit {commit[:12]} is not all of its code",
            fix="commit, train and register it again; or see with --anyway what the commit alone makes",
        )
    return str(commit)


def _made_again(original: Original, origin: Lineage, tree: Worktree, say: Callable[[str], None]) -> Outcome:
    tree.check_imports()
    document = origin.get("document")  # models of version 0.1.0 have none
    if document is not None and yaml.safe_load((tree.project / params.PATH).read_text()) != document:
        say(f"{original.name}: params.yaml is that of the run, which differs from the commit's")
        files.write_text(tree.project / params.PATH, yaml.safe_dump(document, sort_keys=False))
    folder = layout.MODELS / original.name
    made = _rerun(tree, [folder], say)
    then, now = manifest.verify(original.folder), manifest.verify(tree.project / folder)
    found = sameness.compare(then, now, origin, lineage.read(tree.project / folder))
    measured = () if found.weights else _measured(original, tree, made, say)
    return Outcome(original.name, found, measured, None)


def _measured(
    original: Original, tree: Worktree, made: set[str], say: Callable[[str], None]
) -> tuple[ScoreComparison, ...]:
    """Evaluate the model there, and the base with its repeats, which say how far scores move by themselves."""
    if original.scores is None:
        raise LineageError(
            f"{original.name} came out with other weights, and it was registered without the scores to compare them by",
            fix="register it again: `dvc repro --force --single-item register`",
        )
    say(f"{original.name}: other weights; evaluating them")
    suites = json.loads((tree.project / params.resolved("evaluate")).read_text())["evaluate"]["suites"].values()
    datasets = sorted({suite["dataset"] for suite in suites if "dataset" in suite})
    _rerun(tree, [layout.READY / name for name in datasets], say, made)
    tree.run("stages.evaluate", BASELINE, original.name)
    evaluation = tree.project / layout.EVALUATION
    base, now = (ready_rows.read_samples(evaluation / name / SAMPLES) for name in (BASELINE, original.name))
    again = gate.by_suite(ready_rows.read_repeats(evaluation / BASELINE / REPEATS))
    repeats = {suite: [sameness.scores(samples)[suite] for samples in times] for suite, times in again.items()}
    return tuple(sameness.measure(original.scores, sameness.scores(now), sameness.scores(base), repeats))


def _rerun(tree: Worktree, outputs: list[Path], say: Callable[[str], None], made: Collection[str] = ()) -> set[str]:
    """Run all that makes these outputs, whatever DVC knows of them, but what is ``made``; the names of all of it."""
    known = dvc_project.stages(tree.project)
    needed = [stage for output in outputs for stage in dvc_project.upstream(known, _stage(tree, output, known))]
    for path in tree.bring([stage for stage in needed if stage.target not in made], known):
        say(f"  {path}: neither in git nor under DVC: taken from {tree.root} as it is today")
    due = list(dict.fromkeys(stage.target for stage in needed if stage.runs and stage.target not in made))
    if due:
        # Named one by one: --force alone would run what is made already once more.
        tree.run("dvc", "repro", "--force", "--no-run-cache", "--no-commit", "--single-item", *due)
    return {*made, *due}


def _stage(tree: Worktree, output: Path, known: list[Stage] | None = None) -> Stage:
    stage = dvc_project.maker(known or dvc_project.stages(tree.project), output)
    if stage is None:
        raise LineageError(
            f"no stage in {tree.project / 'dvc.yaml'} makes {output}",
            fix="nothing is wrong with the model: it was made outside of the pipeline",
        )
    return stage
