"""The objectives that each kind of row can train, and the advice for the objectives that it cannot."""

from pathlib import Path

from tunesmith.core.errors import DataError
from tunesmith.core.params import Objective
from tunesmith.core.ready_rows import Row, RowKind
from tunesmith.verifiers.names import NAMES

LEARNS_FROM: dict[Objective, tuple[str, RowKind]] = {
    "sft": ("SFT", "answers"),
    "dpo": ("DPO", "preferences"),
    "kto": ("KTO", "marks"),
    "reward": ("reward modelling", "preferences"),
    "grpo": ("GRPO", "scored"),
}
"""The name of each objective, and the kind of row that it learns from; RLHF takes the prompts of any."""

KINDS: dict[RowKind, str] = {
    "answers": "answers (a prompt and the answer to learn)",
    "preferences": "preference pairs (a prompt with a better and a worse answer)",
    "marks": "marks (a prompt with one answer that is good or bad)",
    "scored": "scored prompts (a prompt and a way to score any answer)",
}

REMEDIES: dict[tuple[RowKind, RowKind], str] = {
    ("preferences", "answers"): (
        "train DPO on these pairs; or, if every chosen answer is one to imitate, make a data set with `kind: answers` "
        "and `columns: {prompt: prompt, completion: chosen}`"
    ),
    ("answers", "preferences"): "train SFT on these answers; a pair needs a second, worse answer to the same prompt",
    ("scored", "answers"): "train GRPO on these prompts; SFT needs rows with the answer to learn",
    ("scored", "preferences"): "train GRPO on these prompts; a pair needs a better and a worse answer to each",
    ("preferences", "scored"): "train DPO on these pairs, or a reward model for RLHF",
    ("marks", "answers"): (
        "train KTO on these marks; or, to imitate the good answers alone, make a data set with `kind: answers`, which "
        "sets the bad ones aside"
    ),
    ("marks", "preferences"): "train KTO on these marks; a pair needs a better and a worse answer to the same prompt",
    ("marks", "scored"): "train KTO on these marks; GRPO needs prompts with a verifier that scores any answer",
    ("answers", "marks"): "train SFT on these answers; KTO also needs bad ones, and a column that says which is which",
    ("preferences", "marks"): "train DPO on these pairs, which tells more than marks: each answer has a partner",
    ("scored", "marks"): "train GRPO on these prompts; KTO needs answers that are marked good or bad",
    ("answers", "scored"): (
        "name a verifier in data.<dataset>.verifier, if one can check these answers; otherwise train SFT"
    ),
}
"""Advice where rows of one kind are given to an objective that learns from another: (kind given, kind needed)."""


def objectives(kind: RowKind, verifier: str | None) -> list[Objective]:
    """Return the objectives that rows of ``kind`` can train. GRPO needs a verifier that exists here."""
    allowed = [objective for objective, (_, needed) in LEARNS_FROM.items() if kind == needed != "scored"]
    return [*allowed, "grpo"] if verifier in NAMES and kind in ("answers", "scored") else allowed


def check_trains(objective: Objective, kind: RowKind, verifier: str | None, where: str) -> None:
    """Raise DataError, with the advice in `REMEDIES`, unless rows of ``kind`` can train ``objective``."""
    if objective in objectives(kind, verifier):
        return
    name, needed = LEARNS_FROM[objective]
    if kind == needed == "scored":
        raise DataError(
            f"{where}: these prompts cannot be scored: there is no verifier {verifier!r}, and {name} needs one",
            fix=f"score them with one of: {', '.join(NAMES)} (data.<dataset>.verifier, or a column `verifier`)",
        )
    raise DataError(f"{where}: {name} cannot learn from {KINDS[kind]}", fix=REMEDIES[kind, needed])


def check_rows(objective: Objective, rows: list[Row], path: Path) -> None:
    """Raise DataError, as `check_trains` does, unless every ready row of ``path`` can train ``objective``."""
    for kind, verifier in {(kind_of(row), row.get("verifier")) for row in rows}:
        check_trains(objective, kind, verifier, str(path))


def kind_of(row: Row) -> RowKind:
    """Return the kind of a ready row."""
    if "chosen" in row:
        return "preferences"
    if "completion" in row:
        return "marks" if isinstance(row.get("label"), bool) else "answers"
    return "scored"
