"""Rebuild a registered model from its commit alone, and compare it with the original.

On a CPU, the same commit, data and libraries give the same bytes. On a GPU, or with other hardware or libraries, sums
are added in another order: there the model counts as the same if its scores are, within the noise floor of the base.
"""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from tunesmith.core import (
    dvc_project,
    files,
    formatting,
    git,
    layout,
    lineage,
    manifest,
    params,
    ready_rows,
    statistics,
)
from tunesmith.core.dvc_project import Stage
from tunesmith.core.errors import LineageError
from tunesmith.core.lineage import Lineage, Package
from tunesmith.evaluation import gate
from tunesmith.evaluation.comparison import BASELINE
from tunesmith.evaluation.gate_rules import gap
from tunesmith.registry.provenance import sameness
from tunesmith.registry.provenance.sameness import FileComparison, ScoreComparison, Scores
from tunesmith.registry.provenance.worktree import Worktree, checked_out

SAMPLES, REPEATS = "samples.jsonl", "repeats.jsonl"


@dataclass(frozen=True)
class Original:
    """The model to rebuild. folder: its verified files. scores: its evaluation's, by suite; None where unknown."""

    name: str
    folder: Path
    scores: dict[str, Scores] | None


@dataclass(frozen=True)
class Outcome:
    """The comparison of a rebuilt model with the original. scores: only where the weights differ. kept: the work tree,
    unless it was removed.
    """

    name: str
    files: FileComparison
    scores: tuple[ScoreComparison, ...]
    kept: Worktree | None

    @property
    def reproduced(self) -> bool:
        """Whether it is the same model: the same bytes, or where those cannot be expected, the same scores."""
        within_noise = bool(self.scores) and all(comparison.within for comparison in self.scores)
        return self.files.identical or (within_noise and not self.files.exact)


def reproduce(
    original: Original,
    root: Path,
    *,
    into: Path | None = None,
    keep: bool = False,
    anyway: bool = False,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Rebuild ``original`` with the repository at ``root``, in a work tree at ``into`` (None: a temporary folder).

    keep: keep the work tree; it is always kept for inspection where a stage fails or the model differs. anyway: go on
    where the original was trained with uncommitted changes, or by another build of the package. Raises LineageError
    where the record is insufficient, or a stage fails.
    """
    origin = lineage.read(original.folder)
    commit = _commit(original.name, origin, root, anyway=anyway)
    with checked_out(root, commit, into=into, keep=keep) as tree:
        say(f"{original.name}: commit {commit[:12]} checked out in {tree.project}")
        try:
            if not anyway and not lineage.holds_package(tree.project):
                _check_package(original.name, origin["code"].get("package"))
            outcome = _rebuild(original, origin, tree, say)
        except LineageError as error:
            tree.keep = True
            raise LineageError(error.reason, fix=f"{error.fix}; when done, `{tree.removal}`") from None
        tree.keep = keep or not outcome.reproduced
        return replace(outcome, kept=tree if tree.keep else None)


def report(outcome: Outcome) -> Iterator[str]:
    """The outcome as lines to print, the verdict first."""
    compared = outcome.files
    kind = "adapter" if sameness.CONFIG in (*compared.same, *compared.expected, *compared.differ) else "model"
    if compared.identical:
        yield f"✓ {outcome.name}: the same {kind}, byte for byte: {', '.join(compared.same)}"
    elif outcome.reproduced:
        yield f"✓ {outcome.name}: other bytes, the same scores within the measured noise"
    elif compared.exact:
        yield f"✗ {outcome.name}: another {kind}, though it was made on the same hardware, with the same libraries"
    else:
        yield f"✗ {outcome.name}: another {kind}"
    for name in compared.differ:
        yield f"  differs: {name}"
    for name in compared.expected:
        yield f"  differs as it must: {name} ({sameness.EXPECTED[name]})"
    for change in compared.origin:
        yield f"  differs in its lineage: {change.name}: {change.then} → {change.now}"
    yield from map(_score_line, outcome.scores)
    if outcome.kept is not None:
        yield f"  the work tree is still there: {outcome.kept.project}; `{outcome.kept.removal}` removes it"


def _score_line(suite: ScoreComparison) -> str:
    if suite.missing:
        return f"  {suite.suite}: {suite.missing} prompts were graded in only one of the two evaluations"
    share = statistics.are_shares([suite.then, suite.now])
    floor = "noise floor not measured" if suite.floor is None else f"noise floor {gap(suite.floor, share)}"
    flipped = f"{formatting.percent(suite.flipped)} of prompts score differently"
    then, now = formatting.score(suite.then, share), formatting.score(suite.now, share)
    return f"  {suite.suite}: {then} → {now}; {floor}; {flipped}"


def _commit(name: str, origin: Lineage, root: Path, *, anyway: bool) -> str:
    """The commit of a model's code. Raises LineageError where it is unknown, missing here or incomplete."""
    commit, is_clean = origin["code"]["commit"], origin["code"]["clean"]
    if commit is None:
        raise LineageError(
            f"{name} was not trained in a git checkout, so its code is unknown",
            fix="train it again in a clone (`dvc repro`), and register that",
        )
    if not git.knows(root, commit):
        raise LineageError(
            f"{name} was trained from commit {commit[:12]}, which {root} does not have",
            fix="fetch its branch (`git fetch --all`); an unpushed commit exists only where it was made",
        )
    if not is_clean and not anyway:
        raise LineageError(
            f"{name} was trained with changes that were not committed: commit {commit[:12]} is not all of its code",
            fix="commit, train and register it again; or rebuild the commit alone with --anyway",
        )
    return str(commit)


def _check_package(name: str, then: Package | None) -> None:
    """Raise LineageError unless the installed package is the one that made the model."""
    now = lineage.package()
    if then is None:
        raise LineageError(
            f"{name}: its lineage does not name the package that made it, and its commit does not hold one",
            fix=f"rebuild it by tunesmith {now['version']}, which is installed, with --anyway",
        )
    if then["version"] != now["version"]:
        raise LineageError(
            f"{name} was made by tunesmith {then['version']}; {now['version']} is installed",
            fix=f"`pip install tunesmith=={then['version']}`, best in another environment; or --anyway",
        )
    if then != now:
        raise LineageError(
            f"{name} was made by another build of tunesmith {then['version']}: its code has digest "
            f"{then['sha256'][:12]}, that of the installed one {now['sha256'][:12]}",
            fix="install that build (`pip install --force-reinstall`), or rebuild with the installed one by --anyway",
        )


def _rebuild(original: Original, origin: Lineage, tree: Worktree, say: Callable[[str], None]) -> Outcome:
    tree.check_imports()
    document = origin.get("document")  # models of version 0.1.0 have none
    if document is not None and yaml.safe_load((tree.project / params.PATH).read_text()) != document:
        say(f"{original.name}: params.yaml is that of the run, which differs from the commit's")
        files.write_text(tree.project / params.PATH, yaml.safe_dump(document, sort_keys=False))
    folder = layout.MODELS / original.name
    done = _rerun(tree, [folder], say)
    then, now = manifest.verify(original.folder), manifest.verify(tree.project / folder)
    elsewhere = sameness.based_elsewhere(original.folder, tree.project / folder)
    compared = sameness.compare(then, now, origin, lineage.read(tree.project / folder), elsewhere=elsewhere)
    scores = () if compared.weights else _compare_scores(original, tree, done, say)
    return Outcome(original.name, compared, scores, None)


def _compare_scores(
    original: Original, tree: Worktree, done: set[str], say: Callable[[str], None]
) -> tuple[ScoreComparison, ...]:
    """Evaluate the rebuilt model, and the base with its repeats, from which the noise floor follows."""
    if original.scores is None:
        raise LineageError(
            f"{original.name} was rebuilt with other weights, and it was registered without scores to compare",
            fix="register it again: `dvc repro --force --single-item register`",
        )
    say(f"{original.name}: other weights; evaluating them")
    suites = json.loads((tree.project / params.resolved("evaluate")).read_text())["evaluate"]["suites"].values()
    datasets = sorted({suite["dataset"] for suite in suites if "dataset" in suite})
    _rerun(tree, [layout.READY / name for name in datasets], say, done)
    tree.run("stages.evaluate", BASELINE, original.name)
    evaluation = tree.project / layout.EVALUATION
    base, now = (ready_rows.read_samples(evaluation / name / SAMPLES) for name in (BASELINE, original.name))
    again = gate.by_suite(ready_rows.read_repeats(evaluation / BASELINE / REPEATS))
    repeats = {suite: [sameness.scores(samples)[suite] for samples in times] for suite, times in again.items()}
    return tuple(sameness.measure(original.scores, sameness.scores(now), sameness.scores(base), repeats))


def _rerun(tree: Worktree, outputs: list[Path], say: Callable[[str], None], done: Collection[str] = ()) -> set[str]:
    """Run every stage behind these outputs, up to date or not, except those in ``done``; return all of their names."""
    known = dvc_project.stages(tree.project)
    needed = [stage for output in outputs for stage in dvc_project.upstream(known, _stage(tree, output, known))]
    for path in tree.bring([stage for stage in needed if stage.target not in done], known):
        say(f"  {path}: neither in git nor under DVC: taken from {tree.root} as it is today")
    due = list(dict.fromkeys(stage.target for stage in needed if stage.runs and stage.target not in done))
    if due:
        # Named one by one, since --force alone would run finished stages once more.
        tree.run("dvc", "repro", "--force", "--no-run-cache", "--no-commit", "--single-item", *due)
    return {*done, *due}


def _stage(tree: Worktree, output: Path, known: list[Stage] | None = None) -> Stage:
    stage = dvc_project.maker(known or dvc_project.stages(tree.project), output)
    if stage is None:
        raise LineageError(
            f"no stage in {tree.project / 'dvc.yaml'} makes {output}",
            fix="the model was made outside of the pipeline, and cannot be rebuilt from it",
        )
    return stage
