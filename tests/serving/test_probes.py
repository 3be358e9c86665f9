"""Probes tell a model from its base; their judgement accepts noise and refuses the wrong model."""

from pathlib import Path
from typing import Any

import image_files
import pytest
import tiny_vision

from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Sample
from tunesmith.data.images import parts
from tunesmith.serving import probes


def sample(number: int, completion: str, tokens: int | None = 4, **more: Any) -> Sample:
    row = {"id": f"{number:03}", "prompt": [{"role": "user", "content": f"prompt {number}"}]}
    return {"suite": "s", "row": row, "completion": completion, "tokens": tokens} | more


def model(prefix: str, count: int = 40, tokens: int = 4) -> list[Sample]:
    return [sample(number, f"{prefix} {number}", tokens) for number in range(count)]


def again(samples: list[Sample], *, differ: int = 0) -> list[Sample]:
    """Repeat samples as the evaluation does: once with the same answers, once with so many that differ."""
    changed = [sample | {"completion": "changed"} if index < differ else sample for index, sample in enumerate(samples)]
    return [sample | {"time": 0} for sample in samples] + [sample | {"time": 1} for sample in changed]


def choose_probes(differ: int = 1, count: int = 32, tokens: int = 4) -> probes.Probes:
    base = model("base", tokens=tokens)
    return probes.choose(
        "m", model("own", tokens=tokens), base, again(base, differ=differ), count=count, dtype="float32"
    )


def replies(chosen: probes.Probes, *, of_base: int = 0, other: int = 0) -> list[str]:
    """Return the evaluated answers, except for the first few: those of the base, or of neither model."""
    answers = [probe["completion"] for probe in chosen["probes"]]
    answers[:of_base] = [probe["base"] for probe in chosen["probes"][:of_base]]
    answers[:other] = [f"something else {index}" for index in range(other)]
    return answers


def test_prompts_that_tell_the_model_from_its_base_come_first_and_short_ones_before_long_ones() -> None:
    own = [sample(0, "same"), sample(1, "long", 30), sample(2, "b", 2), sample(3, "a", 2), sample(4, "unasked", None)]
    base = [sample(number, "same", 9) for number in range(5)]
    chosen = probes.choose("m", own, base, [], count=4, dtype="bfloat16")
    assert [probe["id"] for probe in chosen["probes"]] == ["002", "003", "001", "000"]
    assert [probe["max_new_tokens"] for probe in chosen["probes"]] == [9, 9, 30, 9], (
        "enough for the longer of the two answers"
    )
    assert chosen["dtype"] == "bfloat16"
    assert probes.choose("m", own[::-1], base[::-1], [], count=4, dtype="bfloat16") == chosen, (
        "the order of the samples does not matter"
    )


def test_probes_are_asked_as_their_suite_rendered_them() -> None:
    on, off = {"enable_thinking": True}, {"enable_thinking": False}
    own, base = (
        [{**sample(number, f"{name} {number}"), "suite": suite} for number, suite in enumerate(("plain", "thinking"))]
        for name in ("own", "base")
    )
    chosen = probes.choose(
        "m", own, base, [], count=2, dtype="bfloat16", template_kwargs=off, suite_kwargs={"plain": {}, "thinking": on}
    )
    kwargs = {probe["suite"]: probe.get("chat_template_kwargs") for probe in chosen["probes"]}
    assert kwargs == {"plain": None, "thinking": on}
    assert chosen["chat_template_kwargs"] == [off, on]


def test_noise_counts_the_answers_of_the_base_that_differ_when_it_is_asked_again() -> None:
    assert choose_probes(differ=3)["noise"] == {"answers": 40, "differ": 3, "tokens": 160}


@pytest.mark.parametrize("own", [model("base"), []], ids=["like its base", "nothing generated"])
def test_a_model_that_answers_every_prompt_as_its_base_has_no_probes(own: list[Sample]) -> None:
    with pytest.raises(EvaluationError, match="as its base does"):
        probes.choose("m", own, model("base"), [], count=8, dtype="float32")


def test_the_evaluated_answers_are_accepted() -> None:
    chosen = choose_probes()
    assert probes.judge(chosen, replies(chosen)) is None


@pytest.mark.parametrize(
    ("evaluated", "reply"),
    [(" 42\n", "42"), ("<think>\n2 + 2\n</think>\n\n4", "2 + 2 4")],
    ids=["white space", "reasoning"],
)
def test_white_space_and_tags_of_reasoning_do_not_count_as_a_difference(evaluated: str, reply: str) -> None:
    chosen = probes.choose("m", [sample(0, evaluated)], [sample(0, "b")], [], count=1, dtype="float32")
    assert probes.judge(chosen, [reply]) is None


def test_as_many_differences_are_accepted_as_the_noise_explains() -> None:
    chosen = choose_probes(differ=1)
    passes = [probes.judge(chosen, replies(chosen, other=count)) is None for count in range(33)]
    allowed = passes.index(False)
    assert 1 < allowed < 16
    assert not any(passes[allowed:])


def test_long_answers_may_differ_more_often_than_short_ones() -> None:
    def allowed(tokens: int) -> int:
        base = [sample(number, f"base {number}", 50) for number in range(40)]
        chosen = probes.choose("m", model("own", tokens=tokens), base, again(base, differ=8), count=32, dtype="float32")
        return [probes.judge(chosen, replies(chosen, other=n)) is None for n in range(33)].index(False)

    assert allowed(2) < allowed(20)


def test_without_measured_noise_no_difference_is_accepted() -> None:
    chosen = probes.choose("m", model("own"), model("base"), [], count=32, dtype="float32")
    assert probes.judge(chosen, replies(chosen)) is None
    assert probes.judge(chosen, replies(chosen, other=1)) is not None


def test_answers_of_the_base_are_reported_as_an_adapter_that_is_not_applied() -> None:
    chosen = choose_probes()
    reason = probes.judge(chosen, replies(chosen, of_base=32))
    assert reason is not None
    assert "adapter" in reason
    assert "'prompt 0': expected 'own 0', got 'base 0'" in reason


def test_a_refusal_of_another_models_answers_quotes_the_first_few_prompts() -> None:
    chosen = choose_probes()
    reason = probes.judge(chosen, replies(chosen, other=32))
    assert reason is not None
    assert "32 of 32" in reason
    assert "'prompt 2': expected 'own 2', got 'something else 2'; …" in reason
    assert "prompt 3" not in reason


def test_an_engines_own_noise_is_accepted_but_not_answers_of_the_base() -> None:
    chosen = choose_probes(differ=0)
    noisy = replies(chosen, other=8)
    assert probes.judge(chosen, noisy) is not None
    assert probes.judge(chosen, noisy, again=replies(chosen)) is None, (
        "these eight answers also differ between its own replies"
    )
    of_base = replies(chosen, of_base=8)
    assert probes.judge(chosen, of_base, again=replies(chosen)) is not None


def seeing(folder: Path, name: str, colors: list[str]) -> list[Sample]:
    """Samples with an image each, which is asked about in more words than a text."""
    images = tiny_vision.draw(folder / "images", colors)
    made = [sample(100 + number, f"{name} of {color}", 9) for number, color in enumerate(colors)]
    for one, image in zip(made, images, strict=True):
        one["row"]["prompt"] = tiny_vision.ask(image)
        one["suite"] = "seen"
    return made


def test_half_of_the_probes_show_an_image_and_bring_it(tmp_path: Path) -> None:
    colors = ["red", "blue", "green", "gray"]
    own, base = (model(name, 8) + seeing(tmp_path, name, colors) for name in ("own", "base"))
    chosen = probes.choose("m", own, base, [], count=6, dtype="float32", folders={"seen": tmp_path})
    assert [probe["suite"] for probe in chosen["probes"]] == ["s"] * 3 + ["seen"] * 3
    shown = [part["image"] for probe in chosen["probes"][3:] for part in parts.images({"prompt": probe["prompt"]})]
    assert sorted(chosen["images"]) == sorted(shown)
    for digest, url in chosen["images"].items():
        assert url == image_files.url((tmp_path / "images" / f"{digest}.png").read_bytes())


def test_large_images_are_no_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, base = (seeing(tmp_path, name, ["red", "blue", "green"]) for name in ("own", "base"))
    size = len(image_files.url(next((tmp_path / "images").iterdir()).read_bytes()))
    monkeypatch.setattr(probes, "MAX_IMAGES", 2 * size)
    chosen = probes.choose("m", own, base, [], count=6, dtype="float32", folders={"seen": tmp_path})
    assert len(chosen["probes"]) == len(chosen["images"]) == 2
    monkeypatch.setattr(probes, "MAX_IMAGES", 10)
    with pytest.raises(EvaluationError, match="answers to images of more than 10 bytes"):
        probes.choose("m", own, base, [], count=6, dtype="float32", folders={"seen": tmp_path})
