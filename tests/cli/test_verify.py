import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tunesmith.cli.main import main
from tunesmith.core import ready_rows

ANSWERED = {"completion": "so it is 42", "reference": "42"}
GRADED = {
    "answers beside their references": (
        [ANSWERED, ANSWERED | {"completion": "41"}, ANSWERED | {"completion": "none"}],
        [1.0, 0.0, 0.0],
    ),
    "graded samples": ([{"row": {"reference": "42"}, "completion": "42"}], [1.0]),
    "answers of a data set": ([{"question": "6 x 7?", "answer": "6 x 7 = 42\n#### 42"}], [1.0]),
    "ready rows": ([{"id": "a", "prompt": [], "completion": [{"role": "assistant", "content": "42"}]}], [1.0]),
}


@pytest.mark.parametrize("rows", GRADED)
def test_every_answer_in_a_file_gets_a_verdict(tmp_path: Path, rows: str) -> None:
    given, expected = GRADED[rows]
    ready_rows.write_jsonl(tmp_path / "rows.jsonl", given)
    done = CliRunner().invoke(main, ["verify", "--verifier", "number", str(tmp_path / "rows.jsonl")])
    assert done.exit_code == 0, done.output
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [verdict["score"] for verdict in verdicts] == expected
    assert [verdict["line"] for verdict in verdicts] == list(range(1, len(given) + 1))
    assert f"({sum(expected):g} of {len(expected)})" in done.stderr


def test_the_error_of_a_row_without_an_answer_names_its_line(tmp_path: Path) -> None:
    ready_rows.write_jsonl(tmp_path / "rows.jsonl", [ANSWERED, {"text": "no turns"}])
    done = CliRunner().invoke(main, ["verify", "--verifier", "number", str(tmp_path / "rows.jsonl")])
    assert done.exit_code == 1
    assert "rows.jsonl:2" in str(done.exception) + done.output


def test_the_error_of_an_unknown_verifier_names_those_that_exist(tmp_path: Path) -> None:
    ready_rows.write_jsonl(tmp_path / "rows.jsonl", [ANSWERED])
    done = CliRunner().invoke(main, ["verify", "--verifier", "nunber", str(tmp_path / "rows.jsonl")])
    assert "name one of choice, code, exact" in str(done.exception) + done.output


def test_a_file_in_which_nothing_can_be_graded_is_an_error(tmp_path: Path) -> None:
    ready_rows.write_jsonl(tmp_path / "rows.jsonl", [{"completion": "42"}] * 3)
    done = CliRunner().invoke(main, ["verify", "--verifier", "json_schema", str(tmp_path / "rows.jsonl")])
    assert done.exit_code == 1
    assert "json_schema can grade none of 3 answers" in str(done.exception) + done.output
