import pytest

from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation.gate_outcomes import ModelSamples, measurement, pair
from tunesmith.evaluation.gate_rules import Keep, NotExceed, NotGrow

KEEP = Keep(must="keep", suite="demo", metric="score", within=0.1)
UNSAFE = KEEP.model_copy(update={"where": {"label": "unsafe"}})


def sample(key: str, score: float = 1.0, label: str = "safe", **changes: object) -> Sample:
    fields = {"row": {"id": key, "label": label}, "score": score, "status": "scored", "completion": key}
    return fields | {"tokens": 3, "stopped": True, "well_formed": None} | changes


def model(*samples: Sample, name: str = "tuned", **measurements: float | None) -> ModelSamples:
    return ModelSamples(name, {"demo": samples, "other": ()}, measurements)


def test_prompts_are_paired_by_id_whatever_their_order() -> None:
    pairs = pair(KEEP, model(sample("a", 1.0), sample("b", 0.5)), model(sample("b", 0.0), sample("a", 0.25)))
    assert (pairs.ids, pairs.before, pairs.after) == (["a", "b"], [1.0, 0.5], [0.25, 0.0])
    assert pairs.ids_where(lambda before, after: after < before - 0.5) == ("a",)


def test_where_selects_prompts_by_their_rows() -> None:
    base = model(sample("a", label="unsafe"), sample("b"))
    assert pair(UNSAFE, base, base).ids == ["a"]


def test_a_prompt_that_is_not_gradable_in_one_model_is_left_out_and_counted() -> None:
    base, tuned = model(sample("a"), sample("b")), model(sample("a", status="not_gradable"), sample("b"))
    pairs = pair(KEEP, base, tuned)
    assert (pairs.ids, pairs.left_out, pairs.prompts) == (["b"], 1, 2)
    assert pair(NotGrow(must="not_grow", suite="demo", metric="tokens", beyond=2), base, tuned).left_out == 0


def test_answers_are_the_same_only_if_their_scores_are() -> None:
    """Empty answers with different scores are not the same."""
    base = model(sample("a", 0.5, completion=""))
    assert pair(KEEP, base, base).same
    assert not pair(KEEP, base, model(sample("a", 0.6, completion=""))).same
    assert not pair(KEEP, base, model(sample("a", 0.5, completion="else"))).same


UNUSABLE = [
    (KEEP.model_copy(update={"suite": "dmeo"}), r"score on dmeo .* base answered no suite 'dmeo', only demo, other"),
    (UNSAFE, r"score on demo \(label unsafe\).* it selects no sample of demo, where label is safe"),
    (KEEP.model_copy(update={"suite": "other"}), "other has no samples"),
    (KEEP.model_copy(update={"metric": "well_formed"}), "samples of base have no well_formed"),
]


@pytest.mark.parametrize(("rule", "reason"), UNUSABLE)
def test_a_rule_that_selects_nothing_is_named_with_the_values_to_choose_from(rule: Keep, reason: str) -> None:
    base = model(sample("a"), name="base")
    with pytest.raises(EvaluationError, match=reason):
        pair(rule, base, base)


def test_different_prompts_and_shared_ids_are_refused() -> None:
    with pytest.raises(EvaluationError, match="did not answer the same prompts of demo: 2 have one answer"):
        pair(KEEP, model(sample("a"), sample("b")), model(sample("a"), sample("c")))
    with pytest.raises(EvaluationError, match="1 prompts of demo share an id"):
        pair(KEEP, model(sample("a"), sample("a")), model(sample("a")))


def test_a_limit_on_an_unknown_metric_is_named_with_the_known_ones() -> None:
    rule = NotExceed(must="not_exceed", metric="evaluation_seconds", limit=3)
    with pytest.raises(EvaluationError, match="only training_seconds, weights_bytes was measured of tuned"):
        measurement(rule, model(training_seconds=2.0, weights_bytes=None))
    assert measurement(rule.model_copy(update={"metric": "training_seconds"}), model(training_seconds=2.0)) == 2.0
