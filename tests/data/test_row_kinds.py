from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import DataError
from tunesmith.data import row_kinds

ROWS: dict[str, dict[str, Any]] = {
    "answers": {"completion": []},
    "checked answers": {"completion": [], "verifier": "number"},
    "preferences": {"chosen": [], "rejected": []},
    "marks": {"completion": [], "label": False},
    "scored": {"verifier": "number", "reference": "1"},
    "vaguely scored": {"verifier": "vibes"},
}

ALLOWED = {
    "answers": {"sft"},
    "checked answers": {"sft", "grpo"},
    "preferences": {"dpo", "reward"},
    "marks": {"kto"},
    "scored": {"grpo"},
    "vaguely scored": set(),
}


@pytest.mark.parametrize("objective", row_kinds.LEARNS_FROM)
@pytest.mark.parametrize("name", ROWS)
def test_rows_train_what_their_labels_allow_and_nothing_else(name: str, objective: str) -> None:
    if objective in ALLOWED[name]:
        row_kinds.check_rows(objective, [ROWS[name]], Path("rows.jsonl"))
    else:
        with pytest.raises(DataError, match=r"rows\.jsonl: .*\n  fix: "):
            row_kinds.check_rows(objective, [ROWS[name]], Path("rows.jsonl"))


@pytest.mark.parametrize(
    ("name", "objective", "reason", "fix"),
    [
        (
            "preferences",
            "sft",
            "SFT cannot learn from preference pairs",
            "columns: {prompt: prompt,",
        ),
        ("marks", "sft", "SFT cannot learn from marks", "a data set with `kind: answers`"),
        ("answers", "kto", "KTO cannot learn from answers", "a column that says which is which"),
        ("answers", "dpo", "DPO cannot learn from answers", "needs a second, worse answer"),
        ("answers", "grpo", "GRPO cannot learn from answers", "data.<dataset>.verifier"),
        ("vaguely scored", "grpo", "these prompts cannot be scored", "score them with one of: choice"),
    ],
)
def test_the_wrong_method_is_refused_with_the_fix(name: str, objective: str, reason: str, fix: str) -> None:
    with pytest.raises(DataError) as error:
        row_kinds.check_rows(objective, [ROWS[name]], Path("rows.jsonl"))
    assert reason in error.value.reason
    assert fix in error.value.fix


def test_one_wrong_row_among_good_ones_is_refused() -> None:
    with pytest.raises(DataError):
        row_kinds.check_rows("sft", [ROWS["answers"], ROWS["preferences"]], Path("rows.jsonl"))
