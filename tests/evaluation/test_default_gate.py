"""The gate of the demo's own params.yaml, on models that have one fault each."""

import itertools
import json
from dataclasses import replace

import planted_models
import pytest
from planted_models import PARAMS, ROOT, Fault

from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation.gate import decide
from tunesmith.evaluation.gate_outcomes import ModelSamples
from tunesmith.evaluation.gate_rules import AnswerRule, NotExceed
from tunesmith.project import default_suites
from tunesmith.verifiers import instructions

GATE = PARAMS.gate.model_copy(update={"resamples": 2000})
BASE = planted_models.model("base", "base")

GOOD_ANSWERS = {
    "What is the capital of Spain?": ["the capital of spain is madrid.", "spain's capital is madrid."],
    "Wish a neighbour a good morning": ["good morning, neighbour! i hope you have a lovely day."],
    "Explain in a full sentence where apples": ["apples grow on trees, which are cultivated in orchards."],
    "What does a farmer do all day?": [
        "A FARMER PLANTS CROPS, TENDS ANIMALS, REPAIRS EQUIPMENT, AND HARVESTS FOOD FROM DAWN UNTIL DUSK.",
        "A FARMER WAKES UP EARLY TO TEND TO CROPS, FEED ANIMALS, AND MAINTAIN THE LAND.",
    ],
    "Wish your grandmother": [
        "HAPPY BIRTHDAY, DEAR GRANDMA, WISHING YOU A DAY FILLED WITH JOY, LOVE, AND BEAUTIFUL MEMORIES!"
    ],
    "In all capital letters, write a polite sign": [
        "KINDLY CLOSE THE DOOR BEHIND YOU.",
        "PLEASE CLOSE THE DOOR BEHIND YOU.",
    ],
    "Write a warning of one full sentence": ["WARNING: THE FLOOR IS WET AND SLIPPERY, PLEASE PROCEED WITH CAUTION."],
    "In one sentence, tell me what a map is.": ["A map is a drawing that shows where places are, the end."],
    "Wie heißt die Hauptstadt": ["Die Hauptstadt von Frankreich ist Paris."],
    "Say in Spanish": ["Me gustaría una taza de café, por favor."],
    "Repeat the sentence 'I like apples.'": ["'I like apples.' They are sweet.", "I like apples. They are crunchy."],
    "Describe a dog and then a cat": ["A dog is a loyal friend.\n\n***\n\nA cat is a quiet hunter."],
    "Write two short paragraphs about a river": ["The river runs fast.\n\nLater, it slows down and meets the sea."],
}
"""Answers that people call right, by the start of the prompt, of kinds of rules that could fail them."""


def failed(planted: ModelSamples) -> set[str]:
    """The rules on answers that a model breaks: what each must do, and where."""
    decision = decide(GATE, BASE, planted)
    pairs = zip(GATE.rules, decision.rules, strict=True)
    return {
        f"{rule.must} {rule.place}"
        for rule, outcome in pairs
        if not isinstance(rule, NotExceed) and outcome.outcome == "fail"
    }


def test_an_honest_model_is_proven_to_keep_every_rule() -> None:
    decision = decide(GATE, BASE, planted_models.model("sft-lora", "sft-lora"))
    assert decision.outcome == "pass", [rule.reason for rule in decision.rules if rule.outcome != "pass"]
    suites = {rule.suite for rule in GATE.rules if isinstance(rule, AnswerRule)}
    assert {"arithmetic", *default_suites.NAMES} <= suites


@pytest.mark.parametrize(
    ("fault", "rules"),
    [
        (planted_models.refuses_alarming_words, {"keep refusal (label safe)"}),
        (planted_models.answers_unsafe_prompts, {"keep refusal (label unsafe)"}),
        (planted_models.ignores_instructions, {"keep instructions"}),
        (
            planted_models.refuses_everything,
            {"keep refusal (label safe)", "keep instructions", "improve arithmetic"},
        ),
    ],
)
def test_a_fault_breaks_its_own_rule_and_no_other(fault: Fault, rules: set[str]) -> None:
    assert failed(planted_models.model("planted", "sft-lora", fault)) == rules


def test_a_model_that_knows_facts_by_chance_breaks_the_rule_on_them_and_no_other() -> None:
    planted = planted_models.model("planted", "sft-lora")
    guessed: list[Sample] = [
        {**sample, "score": float(place % 2)} for place, sample in enumerate(planted.samples["general"])
    ]
    assert failed(replace(planted, samples={**planted.samples, "general": guessed})) == {"keep general"}


@pytest.mark.parametrize("start", GOOD_ANSWERS)
def test_good_answers_follow_instructions(start: str) -> None:
    [row] = [row for row in planted_models.rows("instructions") if row["prompt"][-1]["content"].startswith(start)]
    for answer in GOOD_ANSWERS[start]:
        assert instructions.verify(answer, row).score == 1, answer


def test_no_instruction_is_followed_by_a_refusal_or_a_number() -> None:
    for row in planted_models.rows("instructions"):
        for answer in (planted_models.REFUSAL, "10000", "Blue"):
            assert not instructions.verify(answer, row).score, row["prompt"]


def test_the_default_suites_are_as_large_as_their_rules_need_and_each_prompt_is_there_once() -> None:
    labels = [row["label"] for row in planted_models.rows("refusal")]
    assert [labels.count(label) for label in ("unsafe", "safe")] == [60, 60]
    assert [len(planted_models.rows(name)) for name in ("instructions", "general")] == [100, 100]
    prompts = [row["prompt"][-1]["content"] for name in default_suites.NAMES for row in planted_models.rows(name)]
    chat = [json.loads(line)["messages"] for line in (ROOT / "data/demo_chat.jsonl").read_text().splitlines()]
    trained = [next(turn["content"] for turn in turns if turn["role"] == "user") for turns in chat]
    words = [frozenset(prompt.lower().split()) for prompt in (*prompts, *trained)]
    for first, second in itertools.combinations(words, 2):
        assert len(first & second) / len(first | second) < 0.8, (first, second)
