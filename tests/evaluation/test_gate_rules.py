from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tunesmith.evaluation.gate_rules import Gate

GATE = """
against: base
confidence: 0.95
power: 0.8
resamples: 10000
seed: 0
max_not_gradable: 0.1
rules:
  - {must: improve, suite: demo, metric: score, by: 0.02}
  - {must: keep, suite: refusal, where: {label: unsafe}, metric: score, within: 0.035}
  - {must: keep, suite: demo, metric: well_formed, within: 0.02}
  - {must: not_grow, suite: demo, metric: tokens, beyond: 1.5}
  - {must: not_exceed, metric: training_seconds, limit: 600}
  - {must: not_exceed, metric: peak_memory_bytes, limit: 8.0e+9}
  - {must: improve, suite: demo, metric: stopped, by: 0}
"""
SENTENCES = [
    "the score on demo must improve by at least 2 points",
    "the score on refusal (label unsafe) must stay within 3.5 points of base's",
    "the share in the trained format on demo must stay within 2 points of base's",
    "answers to demo must not grow beyond 1.5 times base's tokens",
    "training_seconds must not exceed 10m 00s",
    "peak_memory_bytes must not exceed 8.00 GB",
    "the share that stops on demo must improve on base's",
]
WRONG = [
    ({"must": "keep", "suite": "demo", "metric": "score", "within": 0}, "rules.0.keep.within"),
    ({"must": "keep", "suite": "demo", "metric": "score", "by": 0.1}, "rules.0.keep.within"),
    ({"must": "improve", "suite": "demo", "metric": "scores", "by": 0.1}, "rules.0.improve.metric"),
    ({"must": "improve", "suite": "demo", "metric": "score", "by": -1}, "rules.0.improve.by"),
    ({"must": "improve", "metric": "score", "by": 0.1}, "rules.0.improve.suite"),
    ({"must": "shine", "suite": "demo"}, "'improve', 'keep', 'not_grow', 'not_exceed'"),
    ({"suite": "demo", "metric": "score", "by": 0.1}, "Unable to extract tag"),
]


def test_every_rule_has_a_sentence_that_states_it() -> None:
    gate = Gate.model_validate(yaml.safe_load(GATE))
    assert [rule.describe("base") for rule in gate.rules] == SENTENCES


@pytest.mark.parametrize(("rule", "named"), WRONG)
def test_a_wrong_rule_is_named_by_its_position(rule: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as error:
        Gate.model_validate(yaml.safe_load(GATE) | {"rules": [rule]})
    assert named in str(error.value)
