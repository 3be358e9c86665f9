"""What rows teach: the objectives that their labels allow, and what to do instead of the others."""

from pathlib import Path

from tunesmith.core.errors import DataError
from tunesmith.core.ready_rows import Kind, Row
from tunesmith.verifiers.names import NAMES

OBJECTIVES: dict[str, tuple[str, Kind]] = {
    "sft": ("SFT", "answers"),
    "dpo": ("DPO", "preferences"),
    "reward": ("reward modelling", "preferences"),
    "grpo": ("GRPO", "scored"),
}
"""Objective -> its name, and the kind of row it learns from."""

KINDS: dict[Kind, str] = {
    "answers": "answers (a prompt and what to say)",
    "preferences": "preference pairs (a prompt with a better and a worse answer)",
    "scored": "scored prompts (a prompt and how to score any answer)",
}

REMEDIES: dict[tuple[Kind, Kind], str] = {
    (
        "preferences",
        "answers",
    ): "train DPO on these pairs; or, if every chosen answer is one to imitate, make a data set "
    "with `kind: answers` and `columns: {prompt: prompt, completion: chosen}`",
    ("answers", "preferences"): "train SFT on these answers; a pair needs a second, worse answer to the same prompt",
    ("scored", "answers"): "train GRPO on these prompts; SFT needs rows that say what to answer",
    ("scored", "preferences"): "train GRPO on these prompts; a pair needs a better and a worse answer to each",
    ("preferences", "scored"): "train DPO on these pairs, or a reward model for RLHF",
    (
        "answers",
        "scored",
    ): "name in data.<dataset>.verifier what checks an answer, if it can be checked; else train SFT",
}


def objectives(kind: Kind, verifier: str | None) -> list[str]:
    """The objectives that rows of ``kind`` can train; with a verifier that is here, GRPO too."""
    allowed = [objective for objective, (_, needed) in OBJECTIVES.items() if kind == needed != "scored"]
    return [*allowed, "grpo"] if verifier in NAMES and kind != "preferences" else allowed


def check_trains(objective: str, kind: Kind, verifier: str | None, where: str) -> None:
    """Raise DataError, with what to do instead, unless rows of ``kind`` can train ``objective``."""
    if objective in objectives(kind, verifier):
        return
    name, needed = OBJECTIVES[objective]
    if kind == needed == "scored":
        known = ", ".join(NAMES)
        raise DataError(
            f"{where}: these prompts have no solid score: there is no verifier {verifier!r} here, and {name} would "
            "learn from nothing",
            fix=f"score them with one of: {known} (data.<dataset>.verifier, or a column `verifier`)",
        )
    raise DataError(f"{where}: {name} cannot learn from {KINDS[kind]}", fix=REMEDIES[kind, needed])


def check_rows(objective: str, rows: list[Row], path: Path) -> None:
    """Raise DataError, with what to do instead, unless every ready row of ``path`` can train ``objective``."""
    for kind, verifier in {(kind_of(row), row.get("verifier")) for row in rows}:
        check_trains(objective, kind, verifier, str(path))


def kind_of(row: Row) -> Kind:
    """The kind of a ready row."""
    if "chosen" in row:
        return "preferences"
    return "answers" if "completion" in row else "scored"
