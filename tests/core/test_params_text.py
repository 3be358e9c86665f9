from typing import Any

import pytest
import yaml

from tunesmith.core.errors import ParamsError
from tunesmith.core.params_text import with_values

TEXT = """# my project
sft: # trainings
  mine: {dataset: d, lora: {rank: 16}, learning_rate: 1.0e-3} # as published
  other:
    # tuned by hand
    dataset: d # rows
    learning_rate: 2.0e-4
    empty:
"""

EDITS: list[tuple[dict[str, Any], str, str]] = [
    ({"sft.mine.lora.rank": 8}, "{rank: 16}", "{rank: 8}"),
    ({"sft.mine.learning_rate": 3.4e-5}, "1.0e-3", "3.4e-05"),
    ({"sft.mine.lora.dropout": 0.1}, "{rank: 16}", "{rank: 16, dropout: 0.1}"),
    ({"sft.other.learning_rate": 0.01}, "2.0e-4", "0.01"),
    ({"sft.other.empty": True}, "empty:", "empty: true"),
    ({"sft.other.lora.rank": 4}, "dataset: d # rows", "lora: {rank: 4}\n    dataset: d # rows"),
    ({"sft.mine.weights": "full"}, "1.0e-3}", "1.0e-3, weights: full}"),
    ({"sweeps.mine": {"applied": ["a"]}}, "    empty:\n", "    empty:\n\nsweeps: {mine: {applied: [a]}}\n"),
    ({"sft.other.dataset": "a: b"}, "dataset: d # rows", "dataset: 'a: b' # rows"),
]


@pytest.mark.parametrize(("values", "before", "after"), EDITS, ids=[next(iter(values)) for values, _, _ in EDITS])
def test_an_edit_changes_its_value_and_nothing_else(values: dict[str, Any], before: str, after: str) -> None:
    assert TEXT.count(before) == 1
    assert with_values(TEXT, values) == TEXT.replace(before, after)


LINES = """sft:
  mine:
    lora: # small
      # of attention
      rank: 2 # few
      alpha: 4

    # by hand
    rewards:
    - number
    - answer # exact

# of answers
evaluate: {}
"""


@pytest.mark.parametrize(
    ("values", "before", "after"),
    [
        (
            {"sft.mine.lora": None},
            "lora: # small\n      # of attention\n      rank: 2 # few\n      alpha: 4\n",
            "lora: null # small\n      # of attention\n",
        ),
        ({"sft.mine.lora.dropout": 0.1}, "rank: 2", "dropout: 0.1\n      rank: 2"),
        ({"sft.mine.rewards": ["number"]}, "rewards:\n    - number\n    - answer # exact\n", "rewards: [number]\n"),
    ],
)
def test_a_value_of_several_lines_leaves_the_comments_around_it(
    values: dict[str, Any], before: str, after: str
) -> None:
    assert LINES.count(before) == 1
    assert with_values(LINES, values) == LINES.replace(before, after)


def test_line_ends_stay_as_they_are() -> None:
    edited = with_values(TEXT.replace("\n", "\r\n"), {"sft.other.lora.rank": 4, "sweeps.mine": {"by": "loss"}})
    assert edited == with_values(TEXT, {"sft.other.lora.rank": 4, "sweeps.mine": {"by": "loss"}}).replace("\n", "\r\n")


def test_an_anchor_that_nothing_shares_is_no_obstacle() -> None:
    text = "sft:\n  mine: &mine\n    epochs: 1\n"
    assert with_values(text, {"sft.mine.seed": 2}) == "sft:\n  mine: &mine\n    seed: 2\n    epochs: 1\n"
    with pytest.raises(ParamsError, match="without touching other values"):
        with_values(text + "  other:\n    <<: *mine\n", {"sft.mine.seed": 2})


def test_edits_add_up() -> None:
    values = {"sft.mine.lora.rank": 8, "sft.mine.lora.alpha": 2, "sweeps.mine": {"by": "loss"}, "sweeps.other": {}}
    edited = yaml.safe_load(with_values(TEXT, values))
    assert edited["sft"]["mine"]["lora"] == {"rank": 8, "alpha": 2}
    assert edited["sweeps"] == {"mine": {"by": "loss"}, "other": {}}


def test_a_value_that_others_share_is_refused_with_the_lines_to_write() -> None:
    text = "common: &rank {rank: 2}\nsft: {mine: {lora: *rank}}\n"
    with pytest.raises(ParamsError, match="without touching other values") as refused:
        with_values(text, {"sft.mine.lora.rank": 8})
    assert refused.value.fix == "write by hand: sft.mine.lora.rank: 8"
