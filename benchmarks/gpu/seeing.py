"""Log-probabilities of answers to prompts with images on this device, beside transformers' own processor and model.

Each model is tiny and random. The reference reads one row at a time in float32 with eager attention; ours exchanges
tokens of images for pixels (docs/decisions/054), in batches of one row and of all, whose prompts are shared.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from benchmarks.gpu.correctness import TOLERATED
from tunesmith.core.ready_rows import Message
from tunesmith.models import chat, device, loading
from tunesmith.models.images import processor
from tunesmith.models.log_probs import likelihoods

TESTS = Path(__file__).parents[2] / "tests"
COLORS, ANSWERS = ("red", "blue", "green"), ("red", "a b")


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """One kind of model in each dtype. settings: kind. ``ok`` is whether all are within TOLERATED."""
    sys.path.append(str(TESTS))
    import tiny_vision

    profile = device.detect()
    with tempfile.TemporaryDirectory() as scratch:
        base, images = Path(scratch, "base"), Path(scratch, "images")
        square, wide = tiny_vision.draw(images, COLORS), tiny_vision.draw(images, COLORS, (64, 32))
        tiny_vision.fetch(settings["kind"], Path(scratch, "published"), base)
        asked = [tiny_vision.ask(square[0]), tiny_vision.ask(square[1], wide[2]), tiny_vision.ask(wide[0], wide[0])]
        rows = [(prompt, answer) for prompt in asked for answer in ANSWERS]
        right = reference(base, images, rows, profile.device)
        paths: dict[str, Any] = {}
        for dtype, (tolerated, _) in TOLERATED.items():
            opened = loading.open_model(base, base, replace(profile, dtype=dtype), images=[images])
            tokens = [chat.encode_example(opened.tokenizer, *row(*each)).split() for each in rows]
            for batch in (1, len(rows)):
                found = [each.log_prob for each in likelihoods(opened, tokens, batch_size=batch)]
                share = max(abs(a - b) / abs(b) for a, b in zip(found, right, strict=True))
                name = f"{str(dtype).removeprefix('torch.')}, batches of {batch}"
                paths[name] = {"ok": share <= tolerated, "log_probability": share, "tolerated": tolerated}
    return {"ok": all(path["ok"] for path in paths.values()), "paths": paths}


def row(prompt: list[Message], answer: str) -> tuple[list[Message], list[Message]]:
    return prompt, [{"role": "assistant", "content": answer}]


@torch.no_grad()
def reference(base: Path, images: Path, rows: list[tuple[list[Message], str]], on: str) -> list[float]:
    """The log-probability of each answer, by transformers alone."""
    model: Any = AutoModelForImageTextToText.from_pretrained(base, attn_implementation="eager").eval().to(on)
    reads: Any = processor.open_processor(base)
    tokenizer: Any = loading.open_model(base, base, device.detect(), images=[images]).tokenizer
    found = []
    for prompt, answer in rows:
        content: Any = prompt[0]["content"]
        shown = [Image.open(images / f"{part['image']}.png") for part in content if part["type"] == "image"]
        text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        made = reads(text=[f"{text}{answer}{tokenizer.eos_token}"], images=[shown], return_tensors="pt").to(on)
        count = len(tokenizer.encode(f"{answer}{tokenizer.eos_token}", add_special_tokens=False))
        values = model(**made, use_cache=False).logits[0, :-1].log_softmax(-1)
        found.append(float(values.gather(-1, made["input_ids"][0, 1:, None])[-count:].sum()))
    return found
