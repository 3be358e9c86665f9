"""The gate of the demo's own params.yaml, on models that have one fault each."""

import itertools
import json

import planted_models
import pytest
from planted_models import PARAMS, ROOT, Fault

from tunesmith.evaluation.gate import decide
from tunesmith.evaluation.gate_rules import AnswerRule, NotExceed
from tunesmith.project import default_suites
from tunesmith.verifiers import instructions

GATE = PARAMS.gate.model_copy(update={"resamples": 2000})
BASE = planted_models.model("base", "base")


def failed(fault: Fault | None) -> set[str]:
    """The rules on answers that a model breaks: what each must do, and where."""
    decision = decide(GATE, BASE, planted_models.model("planted", "sft-lora", fault))
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
    assert failed(fault) == rules


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
