from pathlib import Path

import data_sets as data
import pytest

from tunesmith.core.errors import DataError
from tunesmith.data import splits
from tunesmith.data.repeats.contamination import EvaluationSets, HeldOut

LONG = "a train leaves the old station at noon and travels for three hours at sixty miles an hour how far"


def sets(path: Path, own: Path = Path("own.jsonl")) -> EvaluationSets:
    return EvaluationSets(HeldOut(path=path, overlap=0.7), [own])


def match(sets: EvaluationSets, text: str) -> str | None:
    return sets.match(splits.prompt_key([{"role": "user", "content": text}]), splits.normalise(text))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data.write(tmp_path / "test.jsonl", [{"question": LONG, "answer": "180"}, {"question": "Why?", "answer": "x"}])
    (tmp_path / "README.md").write_text("no data")
    return tmp_path


def test_the_same_prompt_is_found_with_its_file_and_line(folder: Path) -> None:
    assert match(sets(folder), " WHY? ") == f"in an evaluation set: the prompt of {folder}/test.jsonl:2"


def test_most_of_a_prompt_within_another_text_is_found(folder: Path) -> None:
    reason = match(sets(folder), f"Tell me: {LONG.upper()} does it get?")
    assert reason == f"overlaps an evaluation set: 13 of 13 8-grams of {folder}/test.jsonl:1"


def test_a_shared_phrase_is_not_contamination(folder: Path) -> None:
    assert match(sets(folder), "at noon and travels for three hours at sixty miles and stops") is None


def test_an_instruction_that_many_evaluation_prompts_share_is_not_an_overlap(tmp_path: Path) -> None:
    opening = "answer the following question in one word and say nothing else at all please now"
    data.write(tmp_path / "a.jsonl", [{"question": f"{opening} {word}?"} for word in "abcdefghij"])
    assert match(sets(tmp_path), f"{opening} other?") is None
    assert match(sets(tmp_path), f"{opening} c?") is not None


def test_a_file_is_not_compared_with_itself(folder: Path) -> None:
    assert len(sets(folder, own=folder / "test.jsonl")) == 0


def test_files_below_the_folder_are_evaluation_rows_too(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "test.jsonl").rename(folder / "deep" / "test.jsonl")
    assert match(sets(folder), "Why?") == f"in an evaluation set: the prompt of {folder}/deep/test.jsonl:2"


def test_a_prompt_alone_is_an_evaluation_row(tmp_path: Path) -> None:
    assert len(sets(data.write(tmp_path / "a.jsonl", [{"prompt": "x"}, {"prompt": "y", "label": "safe"}]))) == 2


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    data.write(tmp_path / "a.jsonl", [{"foo": 1}])
    with pytest.raises(DataError, match="no evaluation prompt was recognised"):
        sets(tmp_path)


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        sets(tmp_path / "none")
