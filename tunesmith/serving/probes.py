"""Probes: prompts with evaluated answers, which a server must reproduce before it gets a request.

Probes are chosen at registration from the samples of the evaluation, and signed. Greedy answers are not always repeated
to the letter: in bfloat16, the same model in batches of another size sometimes answers differently. That noise is
measured, and as many differences as it explains are accepted; answers of the base where the tuned model's differ are
not.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import numpy as np
from scipy import stats

from tunesmith.core import layout, ready_rows
from tunesmith.core.errors import EvaluationError
from tunesmith.core.params import TemplateKwargs
from tunesmith.core.ready_rows import Message, Repeat, Sample, Tool, content_text
from tunesmith.data.images import parts, urls

NAME = "probes.json"
CONFIDENCE = 0.95
"""Confidence level of the upper limit of the noise, and of the test against that limit. A good server is refused only
where both fail."""
MAX_IMAGES = 8_000_000
"""Bytes of the images of all probes, as data URLs; prompts with larger ones are no probes."""
MAX_EXAMPLES = 3
"""Maximum number of probes that a refusal quotes."""


class Probe(TypedDict):
    """A prompt with the answers that the evaluation got."""

    suite: str
    """The name of the suite."""
    id: str
    """The id of the row."""
    prompt: list[Message]
    """The conversation to answer."""
    tools: NotRequired[list[Tool]]
    """The tools that the answer may call; absent where there are none."""
    max_new_tokens: int
    """The most tokens that an answer may take: those of the longer one of the two."""
    completion: str
    """The model's answer."""
    tokens: int
    """Tokens of the model's answer, the end of turn included."""
    base: str
    """The base's answer."""
    chat_template_kwargs: NotRequired[TemplateKwargs]
    """The suite's own values of variables of the chat template; absent where it had none."""


class Noise(TypedDict):
    """How the base's answers differ when it is asked again, in batches of another size."""

    answers: int
    """The number of answers asked for again."""
    differ: int
    """How many of them came out different."""
    tokens: int
    """Tokens of all of them."""


class Probes(TypedDict):
    """The content of probes.json, signed at registration."""

    probes: list[Probe]
    """The probes: those that tell the model from its base first, and short ones first."""
    noise: Noise
    dtype: str
    """The dtype of the evaluation, such as "bfloat16"."""
    engine: NotRequired[Literal["transformers", "vllm"]]
    """The engine of the evaluation; transformers where absent, as in versions of earlier releases."""
    images: NotRequired[dict[str, str]]
    """The images that prompts show, as data URLs, by their digests; absent where there are none."""
    chat_template_kwargs: NotRequired[list[TemplateKwargs]]
    """The values of the chat template's variables that the evaluation rendered with: first those that the template has
    by default, then those of suites. Requests may set no others. Absent in versions of earlier releases."""


def choose(
    name: str,
    own: Sequence[Sample],
    base: Sequence[Sample],
    repeats: Sequence[Repeat],
    *,
    count: int,
    dtype: str,
    engine: Literal["transformers", "vllm"] = "transformers",
    template_kwargs: TemplateKwargs | None = None,
    suite_kwargs: Mapping[str, TemplateKwargs] | None = None,
    folders: Mapping[str, Path] | None = None,
) -> Probes:
    """Choose at most ``count`` probes of the model ``name``: first those that tell it from the base, short ones first.

    Where suites have prompts with images, half of the probes show one, as far as these tell the model from its base.
    own, base: samples of both. repeats: the base's repeated answers (reports/evaluation/base/repeats.jsonl). engine:
    that of the evaluation. template_kwargs: the values that the model's template has for its variables. suite_kwargs:
    those of each suite. folders: of the ready rows that each suite asks, with their images.
    Raises EvaluationError where no answer tells the model from its base, so that none can prove which one is served.
    """
    of_base = {_key(sample): sample for sample in base if sample["tokens"] is not None}  # None: nothing was generated
    paired = [(sample, of_base[_key(sample)]) for sample in own if _key(sample) in of_base and sample["tokens"]]
    ordered = sorted(paired, key=lambda pair: (_same(*_completions(pair)), pair[0]["tokens"] or 0, *_key(pair[0])))
    if not ordered or _same(*_completions(ordered[0])):
        raise EvaluationError(
            f"{name} answers all {len(ordered)} prompts as its base does: no probe could tell which one is served",
            fix="evaluate on prompts whose answers training changed: a suite of kind answers in params.yaml, evaluate",
        )
    again = [sample for sample in repeats if sample["time"] and _key(sample) in of_base]  # in batches of another size
    differ = sum(not _same(sample["completion"], of_base[_key(sample)]["completion"]) for sample in again)
    tokens = sum(sample["tokens"] or 0 for sample in again)
    default, of_suites = template_kwargs or {}, suite_kwargs or {}
    chosen, images = _with_images(ordered, count, folders or {})
    if all(_same(*_completions(pair)) for pair in chosen):
        raise EvaluationError(
            f"{name}: what tells it from its base are answers to images of more than {MAX_IMAGES:,} bytes, or beside "
            "tools, which are no probes",
            fix="evaluate on smaller images too, in a suite of kind answers in params.yaml, evaluate",
        )
    probes: Probes = {
        "probes": [_probe(*pair, of_suites.get(pair[0]["suite"], {})) for pair in chosen],
        "noise": {"answers": len(again), "differ": differ, "tokens": tokens},
        "dtype": dtype,
        "engine": engine,
        "chat_template_kwargs": [default, *(default | kwargs for kwargs in of_suites.values() if kwargs)],
    }
    return {**probes, "images": images} if images else probes


def judge(probes: Probes, replies: Sequence[str], again: Sequence[str] | None = None) -> str | None:
    """Return why the replies, one for each probe, are not the evaluated model's; None where they are.

    again: replies of the same server in other batches, for an engine that computes differently from the evaluation's:
    differences between the two measure the engine's own noise.
    """
    answered = list(zip(probes["probes"], replies, strict=True))
    rate = _upper_rate(probes["noise"]["differ"], probes["noise"]["tokens"])
    telling = [(probe, reply) for probe, reply in answered if not _same(probe["completion"], probe["base"])]
    as_base = [(probe, reply) for probe, reply in telling if _same(reply, probe["base"])]
    if len(as_base) > _max_differing(rate, telling):
        return (
            f"{len(as_base)} of the {len(telling)} probe prompts that tell the model from its base are answered as by "
            f"the base: the adapter, or the trained weights, are not applied ({_examples(as_base)})"
        )
    if again is not None:
        changed = sum(not _same(*pair) for pair in zip(replies, again, strict=True))
        rate = max(rate, _upper_rate(changed, sum(probe["tokens"] for probe, _ in answered)))
    differing = [(probe, reply) for probe, reply in answered if not _same(reply, probe["completion"])]
    if len(differing) > (explained := _max_differing(rate, answered)):
        return (
            f"{len(differing)} of {len(answered)} probe prompts are answered differently from the evaluation, where "
            f"noise explains {explained} at most ({_examples(differing)})"
        )
    return None


def _with_images(
    ordered: Sequence[tuple[Sample, Sample]], count: int, folders: Mapping[str, Path]
) -> tuple[list[tuple[Sample, Sample]], dict[str, str]]:
    """Return the first pairs, half of them with images where there are enough, and the images by their digests."""
    images: dict[str, str] = {}
    seeing: list[int] = []
    for place, (own, base) in enumerate(ordered):
        shown = parts.images(own["row"])
        if not shown or len(seeing) == (count + 1) // 2 or "tools" in own["row"] or _same(*_completions((own, base))):
            continue
        files = {part["image"]: layout.image(folders[own["suite"]], part["image"]) for part in shown}
        new = {digest: urls.data_url(file) for digest, file in files.items() if digest not in images}
        if sum(map(len, [*images.values(), *new.values()])) <= MAX_IMAGES:
            images |= new
            seeing.append(place)
    others = [place for place, (own, _) in enumerate(ordered) if not parts.images(own["row"])]
    chosen = sorted([*seeing, *others[: count - len(seeing)]])
    return [ordered[place] for place in chosen], images


def _probe(own: Sample, base: Sample, template_kwargs: TemplateKwargs) -> Probe:
    probe: Probe = {
        "suite": own["suite"],
        "id": own["row"]["id"],
        **ready_rows.asked(own["row"]),  # type: ignore[typeddict-item]
        # The evaluation cut both answers at the same length, if at all, so the longer one leaves room for either.
        "max_new_tokens": max(own["tokens"] or 0, base["tokens"] or 0),
        "completion": own["completion"],
        "tokens": own["tokens"] or 0,
        "base": base["completion"],
    }
    return {**probe, "chat_template_kwargs": template_kwargs} if template_kwargs else probe


def _key(sample: Sample) -> tuple[str, str]:
    return sample["suite"], sample["row"]["id"]


def _completions(pair: tuple[Sample, Sample]) -> tuple[str, str]:
    return pair[0]["completion"], pair[1]["completion"]


def _same(answer: str, other: str) -> bool:
    """Compare answers by words: servers strip white space, and return reasoning without its tags."""
    words, other_words = (re.sub(r"</?think>", " ", text).split() for text in (answer, other))
    return words == other_words


def _upper_rate(differ: int, tokens: int) -> float:
    """Return the upper confidence limit of the rate per token at which answers diverge; 0 without a measurement.

    Every token counts as a trial, even those after an answer has diverged, which lowers the estimate a little; the
    confidence limit covers that.
    """
    if not tokens:
        return 0.0
    interval = stats.binomtest(differ, tokens, alternative="less").proportion_ci(CONFIDENCE, method="exact")
    return float(interval.high)


def _max_differing(rate: float, answered: Iterable[tuple[Probe, str]]) -> int:
    """Return the number of answers that may differ at this rate per token; more has probability < 1 - `CONFIDENCE`.

    The count is a sum of independent Bernoulli variables, one for each probe, with a higher probability for a longer
    answer. Its distribution is computed exactly, by convolution.
    """
    counts = np.ones(1)  # probabilities of 0, 1, ... differing answers
    for probe, _ in answered:
        diverges = 1 - (1 - rate) ** probe["tokens"]
        counts = np.convolve(counts, [1 - diverges, diverges])
    tails = np.cumsum(counts[::-1])[::-1]
    return int(np.sum(tails >= 1 - CONFIDENCE)) - 1


def _examples(differing: Sequence[tuple[Probe, str]]) -> str:
    lines = [
        f"{_short(content_text(probe['prompt'][-1]))}: expected {_short(probe['completion'])}, got {_short(reply)}"
        for probe, reply in differing[:MAX_EXAMPLES]
    ]
    return "; ".join(lines) + ("; …" if len(differing) > MAX_EXAMPLES else "")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"…{text[-59:]}")
