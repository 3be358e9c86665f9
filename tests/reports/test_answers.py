import base64
import gzip
import json
import random
from pathlib import Path
from typing import Any

import image_files
import tiny_vision
from PIL import Image
from shoot_out import SUITE, evaluated

from tunesmith.core import layout
from tunesmith.core.ready_rows import ImagePart
from tunesmith.evaluation.comparison import Evaluated
from tunesmith.reports import answers
from tunesmith.reports.answers import CHUNK


def unpacked(chunk: str) -> list[dict[str, Any]]:
    texts: list[dict[str, Any]] = json.loads(gzip.decompress(base64.b64decode(chunk)))
    return texts


def test_every_prompt_has_every_models_score_answer_and_reason() -> None:
    models = [evaluated(name, texts) for name, texts in {"base": ["x", "1", "x"], "one": ["0", "1", "x"]}.items()]
    models[1].samples[SUITE][1]["status"] = "not_gradable"
    packed = answers.pack(models)
    assert [entry["scores"] for entry in packed.index] == [[0.0, 1.0], [1.0, None], [0.0, 0.0]]
    assert [(entry["suite"], entry["id"]) for entry in packed.index] == [(SUITE, "0"), (SUITE, "1"), (SUITE, "2")]
    texts = unpacked(packed.chunks[0])
    assert texts[0]["answers"][1] == ["0", "0 is 0", ""]
    assert (texts[1]["prompt"], texts[1]["reference"]) == ("what is 1?", "1")


def test_many_prompts_lie_in_chunks_in_their_order() -> None:
    packed = answers.pack([evaluated("base", ["0"] * (2 * CHUNK + 1))])
    assert [len(unpacked(chunk)) for chunk in packed.chunks] == [CHUNK, CHUNK, 1]
    assert unpacked(packed.chunks[1])[0]["prompt"] == f"what is {CHUNK}?"


def test_the_same_answers_are_packed_into_the_same_bytes() -> None:
    assert answers.pack([evaluated("base", ["0"])]) == answers.pack([evaluated("base", ["0"])])


def test_reasoning_stands_apart_from_the_answer() -> None:
    thought = evaluated("base", ["<think>one and one</think>2", "<think>without an end"])
    first, second = (text["answers"][0] for text in unpacked(answers.pack([thought]).chunks[0]))
    assert (first[0], first[2]) == ("2", "one and one")
    assert (second[0], second[2]) == ("<think>without an end", "")


def test_a_page_that_would_grow_too_large_cuts_long_answers_and_says_so() -> None:
    noise = random.Random(0)
    texts = ["".join(noise.choices("abcdefghijklmnopqrstuvwxyz", k=4000)), "short"]
    whole, cut = (answers.pack([evaluated("base", texts)], largest=largest) for largest in (10_000, 2000))
    assert unpacked(whole.chunks[0])[0]["answers"][0][0] == texts[0]
    assert sum(map(len, cut.chunks)) <= 2000
    long, short = (text["answers"][0][0] for text in unpacked(cut.chunks[0]))
    kept, note = long.split("… ")
    assert texts[0].startswith(kept)
    assert note == f"({4000 - len(kept):,} more characters in samples.jsonl)"
    assert short == "short"


def with_images(folder: Path, count: int) -> Evaluated:
    """Answers to prompts with an image of noise each."""
    model = evaluated("base", ["0"] * count)
    for number, sample in enumerate(model.samples[SUITE]):
        noise = Image.effect_noise((192, 192), 90).convert("RGB")
        name = f"{number:064x}"
        dataset = folder / model.metrics["suites"][SUITE]["dataset"]
        image_files.put(dataset / layout.IMAGES / f"{name}.png", image_files.encoded(noise))
        part: ImagePart = {"type": "image", "image": name, "width": 192, "height": 192}
        sample["row"]["prompt"] = tiny_vision.ask(part, text="What is it?")
    return model


def test_prompts_of_the_comparison_show_their_images_within_the_bounds_of_the_page(tmp_path: Path) -> None:
    model = with_images(tmp_path, 12)
    packed = unpacked(answers.pack([model], ready=tmp_path).chunks[0])
    assert [text["prompt"] for text in packed] == ["[image] What is it?"] * 12
    assert [len(text["images"]) for text in packed] == [1] * 12
    small = answers.pack([model], largest=120_000, ready=tmp_path)
    assert sum(map(len, small.chunks)) <= 120_000
    shown = [len(text["images"]) for text in unpacked(small.chunks[0])]
    assert 0 < sum(shown) < 12
    assert [1 - number for number in shown] == [text["more_images"] for text in unpacked(small.chunks[0])]
    assert shown == sorted(shown, reverse=True)
