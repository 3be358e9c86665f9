"""The answers of all models to every prompt, packed so that a page with thousands of prompts opens at once.

An index has what filters need of every prompt; the texts lie in chunks of prompts, each compressed, which the page's
script unpacks when it shows or searches them.
"""

import base64
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from tunesmith.core import layout
from tunesmith.core.ready_rows import Message, Sample, dumps, split_reasoning, texts
from tunesmith.data.images.thumbnails import Thumbnails
from tunesmith.evaluation.comparison import Evaluated
from tunesmith.models.images import parts

CHUNK = 100
"""Prompts a chunk."""
LARGEST = 28_000_000
"""Bytes of all chunks, at most: a page must stay small enough to be sent. Longer answers are cut, and say so."""
EDGE = 192
"""The longer side of a thumbnail, in pixels."""


class Indexed(TypedDict):
    """A prompt in the index."""

    suite: str
    id: str
    scores: list[float | None]
    """The score of each model; null where the answer could not be graded."""


class Texts(TypedDict):
    """The texts of a prompt."""

    prompt: str
    images: list[str]
    """Thumbnails of the prompt's images, as data URLs; of the first of them where there are many."""
    more_images: int
    """The number of the prompt's images that have no thumbnail."""
    reference: str | None
    answers: list[tuple[str, str, str]]
    """Each model's answer, the verdict's reason, and what the model thought before it answered."""


@dataclass(frozen=True)
class Answers:
    """All answers, in the order of the suites and their prompts."""

    index: list[Indexed]
    chunks: list[str]
    """Each CHUNK prompts' texts: JSON, compressed by gzip, in base64."""


def pack(models: Sequence[Evaluated], largest: int = LARGEST, ready: Path = layout.READY) -> Answers:
    """The answers of models to the same prompts, in at most ``largest`` bytes. ready: the folder of ready data sets."""
    prompts = [
        answers
        for suite in models[0].samples
        for answers in zip(*(model.samples[suite] for model in models), strict=True)
    ]
    index: list[Indexed] = [
        {
            "suite": answers[0]["suite"],
            "id": answers[0]["row"]["id"],
            "scores": [None if answer["status"] == "not_gradable" else float(answer["score"]) for answer in answers],
        }
        for answers in prompts
    ]
    thumbnails, suites = Thumbnails(EDGE, largest // 3), models[0].metrics["suites"]
    images = [
        thumbnails.of(parts.images(answers[0]["row"]["prompt"]), ready / suites[answers[0]["suite"]]["dataset"])
        for answers in prompts
    ]
    longest = max((len(answer["completion"]) for answers in prompts for answer in answers), default=0)
    while (size := sum(map(len, chunks := _chunks(prompts, images, longest)))) > largest and longest > 100:
        longest = int(0.97 * longest * largest / size)
    return Answers(index, chunks)


def _chunks(prompts: Sequence[Sequence[Sample]], images: Sequence[list[str]], longest: int) -> list[str]:
    """The chunks of all prompts. images: thumbnails of each. longest: characters of an answer that is not cut."""
    texts = [_texts(answers, shown, longest) for answers, shown in zip(prompts, images, strict=True)]
    return [_compressed(texts[first : first + CHUNK]) for first in range(0, len(texts), CHUNK)]


def _texts(answers: Sequence[Sample], images: list[str], longest: int) -> Texts:
    row = answers[0]["row"]
    return {
        "prompt": _conversation(row["prompt"]),
        "images": images,
        "more_images": len(parts.images(row["prompt"])) - len(images),
        "reference": _reference(row.get("reference")),
        "answers": [_answer(sample, longest) for sample in answers],
    }


def _answer(sample: Sample, longest: int) -> tuple[str, str, str]:
    """An answer, the verdict's reason, and the reasoning; a thought that never ended is all that there is to read."""
    text = sample["completion"]
    if (more := len(text) - longest) > 0:
        text = f"{text[:longest]}… ({more:,} more characters in samples.jsonl)"
    reasoning, answer = split_reasoning(text)
    return (answer, sample["reason"], reasoning) if answer.strip() else (text, sample["reason"], "")


def _compressed(part: Sequence[Texts]) -> str:
    return base64.b64encode(gzip.compress(dumps(part), mtime=0)).decode()


def _reference(value: object) -> str | None:
    """The right answer as text; a verifier may take several answers, or an object."""
    return value if value is None or isinstance(value, str) else dumps(value).decode()


def _conversation(prompt: list[Message]) -> str:
    """A conversation as text, with [image] for an image; with several messages, each has its role."""
    if len(prompt) == 1:
        return parts.shown(prompt[0])
    turns: list[Message] = [{**message, "content": parts.shown(message)} for message in prompt]
    return "\n\n".join(f"{message['role']}: {' '.join(texts(message)).strip()}" for message in turns)
