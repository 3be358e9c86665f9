"""A page of a comparison as long as teams have them: long Markdown answers, several suites, every kind of model."""

import copy
import random
from dataclasses import replace
from typing import Any, cast

from lineages import ORIGIN
from shoot_out import HOW, SUITE, TUNED, models

from tunesmith.core.lineage import Lineage
from tunesmith.evaluation import comparison
from tunesmith.evaluation.comparison import Evaluated
from tunesmith.evaluation.gate import decide_all
from tunesmith.evaluation.gate_rules import Gate
from tunesmith.reports import comparison_page, facts, registered_page

WORDS = [
    "the",
    "of",
    "model",
    "answer",
    "because",
    "step",
    "value",
    "rate",
    "first",
    "then",
    "which",
    "result",
    "table",
]
HOSTILE = (
    "<img src=x onerror=document.title='owned'> [click](javascript:alert(1)) <script>document.title='owned'</script>"
)
GATE = Gate(
    against="base",
    confidence=0.95,
    power=0.8,
    resamples=1000,
    seed=0,
    max_not_gradable=0.1,
    rules=[{"must": "improve", "suite": SUITE, "metric": "score", "by": 0.0}],  # type: ignore
)


def markdown(seed: str, length: int) -> str:
    """Markdown of about that many characters: paragraphs, a list, a table, code."""
    draw = random.Random(seed)
    parts = [f"## Answer {seed}", HOSTILE]
    while sum(map(len, parts)) < length:
        sentence = " ".join(draw.choices(WORDS, k=25)).capitalize() + "."
        kind = draw.randrange(5)
        parts.append(
            [
                sentence,
                f"- **{sentence[:20]}** {sentence}\n- `x = {draw.randrange(99)}`\n  - inner",
                f"| a | b |\n|---|---|\n| {draw.randrange(9)} | {sentence[:30]} |",
                f"```python\nfor i in range({draw.randrange(9)}):\n    print(i)\n```",
                f"> {sentence}",
            ][kind]
        )
    return "\n\n".join(parts)[:length]


def evaluated(*, prompts: int, length: int, suites: int = 1) -> list[Evaluated]:
    """The base and all of TUNED but one, with answers of that many characters on every suite."""
    made = models(*list(TUNED)[:7], prompts=prompts)
    for model in made:
        for number, sample in enumerate(model.samples[SUITE]):
            if number == 7:
                call = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
                sample["completion"] = f"<think>first add</think>Let me see.\n\n{call}"
            elif length:
                sample["completion"] = markdown(f"{number}{model.name if number % 3 else ''}", length)
    return [_with_suites(model, suites) for model in made]


def _with_suites(model: Evaluated, count: int) -> Evaluated:
    """A model that has as many suites, which all asked the same."""
    names = [SUITE, *(f"suite-{number}" for number in range(2, count + 1))]
    metrics = cast("Any", {**model.metrics, "suites": dict.fromkeys(names, model.metrics["suites"][SUITE])})
    samples = {name: [{**sample, "suite": name} for sample in model.samples[SUITE]] for name in names}
    return replace(model, metrics=metrics, samples=cast("Any", samples))


def page(*, prompts: int = 60, length: int = 2000, suites: int = 6) -> str:
    """The page as `register` leaves it."""
    models_ = evaluated(prompts=prompts, length=length, suites=suites)
    decisions = decide_all(GATE, models_, [])
    compared = comparison.compare(models_, [], HOW, decisions=decisions)
    metrics: Any = {"time": 1_767_323_045_000, "model_digest": "f" * 64, "dtype": "bfloat16"}
    lineages = {model.name: cast("Lineage", copy.deepcopy(ORIGIN)) for model in models_[1:]}
    about = facts.collect({"source": "hub Qwen/Qwen3-8B@9c925d64"}, lineages, [metrics])
    versions = {model.name: (f"{number:032x}", str(number)) for number, model in enumerate(models_[1:], 1)}
    registered = registered_page.registered("support", "https://tracker.example", "1", versions)
    return registered_page.fill(comparison_page.page(compared, models_, about=about), registered)
