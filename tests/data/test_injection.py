"""1,000 bad rows of every kind among 10,000 good ones: each is found on its line, and no good row is changed."""

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import data_sets as data
import pytest
from transformers import PreTrainedTokenizerFast

from tunesmith.data import parallel, prepare
from tunesmith.data.dataset import Dataset
from tunesmith.data.formats import json_rows
from tunesmith.data.lengths import Lengths
from tunesmith.models.base import base_tokenizer

SEED = 20
TREES = "amber birch cedar delta ember fjord grove heath inlet jetty knoll larch maple north ocean pearl"
WORDS = TREES.split()
MAX_LENGTH, CONTEXT = 600, 1200

Make = Callable[[random.Random, int], bytes]


def words(rng: random.Random, count: int) -> str:
    return " ".join(f"{rng.choice(WORDS)}{rng.randrange(10_000)}" for _ in range(count))


def encode(row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


def question(rng: random.Random, number: int) -> dict[str, Any]:
    return {"question": f"{words(rng, 9)} {number}?", "answer": f"{words(rng, 4)}\n#### {number}"}


def changed(**changes: Any) -> Make:
    return lambda rng, number: encode(question(rng, number) | changes)


def with_text(text: str, column: str = "answer") -> Make:
    def make(rng: random.Random, number: int) -> bytes:
        row = question(rng, number)
        return encode(row | {column: f"{text} {row[column]}"})

    return make


def chat(*turns: tuple[str, str]) -> Make:
    """Make a conversation; random words replace ``%`` in a turn, so that no two are the same."""

    def make(rng: random.Random, number: int) -> bytes:
        messages = [{"role": role, "content": content.replace("%", words(rng, 6))} for role, content in turns]
        return encode({"messages": messages})

    return make


def raw(change: Callable[[bytes], bytes]) -> Make:
    return lambda rng, number: change(encode(question(rng, number)))


def missing(column: str) -> Make:
    def make(rng: random.Random, number: int) -> bytes:
        row = question(rng, number)
        del row[column]
        return encode(row)

    return make


def long(column: str, count: int) -> Make:
    return lambda rng, number: encode(question(rng, number) | {column: f"{words(rng, count)} #### {number}"})


def flagged(**fields: Any) -> Make:
    """Make a conversation whose answer has further fields."""

    def make(rng: random.Random, number: int) -> bytes:
        answer = {"role": "assistant", "content": f"#### {number}", **fields}
        return encode({"messages": [{"role": "user", "content": words(rng, 6)}, answer]})

    return make


ANSWERS: list[tuple[str, Make]] = [
    ("not JSON", raw(lambda line: line[:-1])),
    ("not a JSON object", raw(lambda line: b"[" + line + b"]")),
    ("not UTF-8", raw(lambda line: line.replace(b"####", b"\xff####"))),
    ("byte order mark", raw(lambda line: b"\xef\xbb\xbf" + line)),
    ("NUL byte", raw(lambda line: line.replace(b"####", b"\0####"))),
    ("NUL byte", with_text("\0")),
    ("line too long", lambda rng, number: b'{"question": "' + b"x" * 3000 + b'", "answer": "1"}'),
    ("duplicate key", raw(lambda line: line[:-1] + b', "answer": "2"}')),
    ("wrong type", changed(answer=["2"])),
    ("wrong type", changed(question={"text": "2"})),
    ("missing field", missing("answer")),
    ("missing field", missing("question")),
    ("missing field", changed(answer=None)),
    ("unknown layout", lambda rng, number: encode({"foo": words(rng, 3), "bar": number})),
    ("wrong kind", lambda rng, number: encode({"prompt": words(rng, 5), "chosen": "a", "rejected": "b"})),
    ("marked bad", lambda rng, number: encode({"prompt": words(rng, 5), "completion": "#### 1", "label": False})),
    ("empty prompt", changed(question=" \n\t")),
    ("empty completion", changed(answer="")),
    ("unknown role", chat(("user", "%"), ("narrator", "%"), ("assistant", "#### 1"))),
    ("wrong role order", chat(("user", "%"), ("user", "%"), ("assistant", "#### 1"))),
    ("wrong role order", chat(("user", "%"), ("system", "%"), ("user", "%"), ("assistant", "#### 1"))),
    ("empty turn", chat(("user", "%"), ("assistant", " "), ("user", "%"), ("assistant", "#### 1"))),
    ("no assistant at the end", chat(("user", "%"), ("assistant", "%"), ("user", "%"))),
    (
        "several assistant turns",
        lambda rng, number: encode({"prompt": words(rng, 5), "completion": [
            {"role": role, "content": "#### 1"} for role in ("assistant", "user", "assistant")]}),
    ),
    ("control character", with_text("\x07")),
    ("control character", with_text("\x9b", "question")),
    ("special token", with_text("<|im_end|>")),
    ("special token", with_text("<|im_start|>system", "question")),
    ("secret", with_text("my key is AKIAABCDEFGHIJKLMNOP")),
    ("secret", with_text("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk", "question")),
    ("secret", with_text("ghp_" + "a1B2" * 9)),
    ("completion cut", long("answer", 80)),
    ("completion lost", long("question", 90)),
    ("prompt fills the context", long("question", 200)),
    ("answer not right by its own verifier", changed(answer="no number at all")),
    ("column left out", changed(legend="a map that no part of the row uses")),
    ("image", changed(images=["a.png"])),
    ("ambiguous", changed(problem="another question")),
    ("field lost", flagged(mood="sad")),
    ("nothing to train", flagged(weight=0)),
    ("wrong type", flagged(loss=0.5)),
    ("wrong type", lambda rng, number: encode({"messages": "[{'role': 'user', 'content': " + words(rng, 3)})),
    ("wrong type", flagged(tool_calls=[{"function": {"name": "f", "arguments": "{"}}])),
    ("tools", lambda rng, number: encode(question(rng, number) | {"tools": [{"name": f"f{number}"}]})),
    ("tool turn", flagged(tool_calls=[{"function": {"name": "f", "arguments": {}}}])),
    ("missing field", changed(answer="<NA>")),
]  # fmt: skip


def pair(rng: random.Random, number: int) -> dict[str, Any]:
    return {"prompt": f"{words(rng, 9)} {number}", "chosen": words(rng, 5), "rejected": words(rng, 5)}


def transcript(*turns: str) -> str:
    return "".join(f"\n\n{'Human' if place % 2 == 0 else 'Assistant'}: {turn}" for place, turn in enumerate(turns))


def pair_of(chosen: tuple[str, ...], rejected: tuple[str, ...]) -> Make:
    def make(rng: random.Random, number: int) -> bytes:
        prompt = words(rng, 6)
        sides = {"chosen": chosen, "rejected": rejected}
        return encode({name: transcript(*(turn.replace("%", prompt) for turn in side)) for name, side in sides.items()})

    return make


def rated(chosen: int, rejected: int) -> Make:
    ratings = {"score_chosen": chosen, "score_rejected": rejected}
    return lambda rng, number: encode(pair(rng, number) | ratings)


def equal_list(rng: random.Random, number: int) -> bytes:
    return encode({"prompt": words(rng, 9), "responses": [words(rng, 5), words(rng, 5)], "scores": [number, number]})


PAIRS: list[tuple[str, Make]] = [
    ("equal ratings", rated(4, 4)),
    ("equal ratings", equal_list),
    ("rated the other way", rated(2, 5)),
    ("chosen equals rejected", lambda rng, number: encode(pair(rng, number) | {"chosen": "x", "rejected": "x"})),
    ("different prompts", pair_of(("%", "a"), ("not %", "b"))),
    ("several assistant turns", pair_of(("%", "a", "more", "c"), ("%", "b", "more", "d"))),
    ("no assistant at the end", pair_of(("%", "a", "and"), ("%", "b"))),
    ("empty completion", pair_of(("%", " "), ("%", "b"))),
]


class File:
    """Lines, each with the check that must find it, or None for a good row."""

    def __init__(self) -> None:
        self.lines: list[tuple[bytes, str | None]] = []

    def add(self, line: bytes, check: str | None) -> None:
        self.lines.append((line, check))

    def write(self, path: Path) -> Path:
        return data.write(path, [line for line, _ in self.lines])

    def good(self) -> list[bytes]:
        return [line for line, check in self.lines if check is None]

    def bad(self) -> list[tuple[int, str]]:
        return [(number, check) for number, (_, check) in enumerate(self.lines, start=1) if check]


def mixed(rng: random.Random, good: list[bytes], bad: list[tuple[str, bytes]]) -> File:
    file = File()
    lines: list[tuple[bytes, str | None]] = [(line, None) for line in good] + [(line, check) for check, line in bad]
    rng.shuffle(lines)
    for line, check in lines:
        file.add(line, check)
    return file


def add_related(rng: random.Random, file: File, held_out: list[dict[str, Any]], count: int) -> None:
    """Add rows that are bad because of others, each after the good row that it resembles."""
    for number in range(count):
        row = question(rng, 500_000 + number)
        match number % 4:
            case 0:  # the first is good, its copy is not
                file.add(encode(row), "exact duplicate")
                file.lines.insert(0, (encode(row), None))
            case 1:
                longer = row | {"question": f"{words(rng, 40)} {number}?"}
                file.lines.insert(0, (encode(longer), None))
                file.add(encode(longer | {"question": longer["question"].replace("?", " then?")}), "near duplicate")
            case 2:
                file.add(encode(held_out[number] | {"answer": "#### 1"}), "in an evaluation set")
            case 3:
                prompt = held_out[number]["question"].removesuffix("?")
                file.add(encode(row | {"question": f"Well, {prompt} or so?"}), "overlaps an evaluation set")


def add_contradictions(rng: random.Random, file: File, pairs: int) -> None:
    for number in range(pairs):
        row = question(rng, 600_000 + number)
        for answer in ("#### 1", "#### 2"):
            file.lines.insert(rng.randrange(len(file.lines)), (encode(row | {"answer": answer}), "conflicting answers"))


@pytest.fixture
def lengths(tokenizer: PreTrainedTokenizerFast) -> Lengths:
    return Lengths(base_tokenizer.Counter(tokenizer), CONTEXT, tools=False)


def check(dataset: Dataset, file: File, lengths: Lengths, clean: Path, answer: str) -> Counter[str]:
    """Assert that each bad row is found by its check on its line, and that good rows are as without bad ones."""
    with ExitStack() as stack:
        checked = data.check(stack, dataset, lengths)
        assert [(problem.line, problem.check) for problem in checked.problems] == file.bad()
        alone = data.check(
            stack, dataset.model_copy(update={"path": data.write(clean, file.good()), "max_bad_share": 0}), lengths
        )
        assert alone.problems == []
        assert len(alone.index) == len(file.good())
        kept_texts = {(row["prompt"][-1]["content"], row[answer][0]["content"]) for row in data.good_rows(checked)}
        prompt = "question" if answer == "completion" else "prompt"
        originals = [json.loads(line) for line in file.good()]
        assert kept_texts == {(row[prompt], row["answer" if answer == "completion" else answer]) for row in originals}
        assert all(re.fullmatch(r"[a-zA-Z0-9- ]+: .{5,}", problem.reason, re.DOTALL) for problem in checked.problems)
        kept, expected = (list(map(rows.read, range(len(rows.index)))) for rows in (checked, alone))
        assert kept == expected
        for name, positions in prepare.select(checked, dataset).items():
            assert len(positions) == len(prepare.select(alone, dataset)[name])
        return Counter(problem.check for problem in checked.problems)


def test_a_thousand_bad_rows_among_ten_thousand(
    tmp_path: Path, lengths: Lengths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_rows, "LONGEST_LINE", 2500)
    monkeypatch.setattr(parallel, "FEW", 10**9)  # or the other processes would know another longest line
    rng = random.Random(SEED)
    held_out = [{"question": f"{words(rng, 12)} {number}?"} for number in range(400)]
    held_out_file = data.write(tmp_path / "held_out.jsonl", held_out)

    good = [encode(question(rng, number)) for number in range(7896)]
    bad = [(check, make(rng, 100_000 + 40 * turn + place)) for turn in range(12) for place, (check, make) in
           enumerate(ANSWERS)]  # fmt: skip
    answers = mixed(rng, good, bad)
    add_contradictions(rng, answers, 40)
    add_related(rng, answers, held_out, 208)

    pairs = mixed(
        rng,
        [encode(pair(rng, number)) for number in range(2000)],
        [(check, make(rng, 200_000 + number)) for number in range(20) for check, make in PAIRS],
    )

    settings: dict[str, Any] = {
        "held_out": {"path": held_out_file, "overlap": 0.7},
        "max_length": MAX_LENGTH,
        "near_duplicates": 0.8,
    }
    counts = check(
        data.dataset(answers.write(tmp_path / "answers.jsonl"), verifier="number", **settings),
        answers,
        lengths,
        tmp_path / "good_answers.jsonl",
        "completion",
    )
    counts += check(
        data.dataset(pairs.write(tmp_path / "pairs.jsonl"), kind="preferences", **settings),
        pairs,
        lengths,
        tmp_path / "good_pairs.jsonl",
        "chosen",
    )
    assert counts.total() == 1000
    assert len(answers.good()) + len(pairs.good()) == 10_000
