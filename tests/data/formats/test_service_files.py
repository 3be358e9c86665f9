from contextlib import ExitStack
from pathlib import Path
from typing import Any

import data_sets as data
import pytest

from tunesmith.cli import advise
from tunesmith.data import readers
from tunesmith.data.formats import service_files

ASKED = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "4", "weight": 0}]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"messages": ANSWERED}, "OpenAI's chat file"),
        ({"messages": ANSWERED, "tools": [], "parallel_tool_calls": False}, "OpenAI's chat file"),
        (
            {"input": {"messages": ASKED}, "preferred_output": ANSWERED[2:], "non_preferred_output": ANSWERED[2:]},
            "OpenAI's preference file",
        ),
        ({"messages": ASKED, "reference_answer": "4"}, "OpenAI's reinforcement file"),
        ({"messages": ASKED, "compliant": "yes", "steps": ["a"]}, "OpenAI's reinforcement file"),
        ({"messages": ASKED}, None),
        ({"messages": ANSWERED, "source": "forum"}, None),
        ({"messages": "hello"}, None),
        ({"input": "2 + 2?", "preferred_output": "4", "non_preferred_output": "5"}, None),
        ({"prompt": "2 + 2?", "completion": "4"}, None),
    ],
)
def test_files_of_services_are_known_by_their_columns(fields: dict[str, Any], name: str | None) -> None:
    assert service_files.name(fields) == name


def test_a_reinforcement_file_names_the_columns_that_may_hold_the_answer() -> None:
    fields = {"messages": ASKED, "tools": [], "answer_key": "4", "points": 2, "notes": "", "steps": ["a"]}
    assert service_files.answers(fields) == ["answer_key", "points"]


def test_advise_on_a_reinforcement_file_says_what_to_add_and_that_prepares_it(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"{n} + {n}?"}], "key_of_it": str(2 * n)} for n in range(9)]
    path = data.write(tmp_path / "rft.jsonl", rows)
    advice = advise.advise(data.dataset(path), readers.find(path), tmp_path / "none")
    assert advice.reason is not None
    assert "columns: {prompt: messages, completion: key_of_it}, verifier: exact" in advice.reason
    columns = {"prompt": "messages", "completion": "key_of_it"}
    with ExitStack() as stack:
        checked = data.check(stack, data.dataset(path, columns=columns, verifier="exact", kind="scored"))
        assert [row["reference"] for row in data.good_rows(checked)] == [str(2 * n) for n in range(9)]
