import pytest

from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation.gate_outcomes import Contender, measured, pair
from tunesmith.evaluation.gate_rules import Keep, NotExceed, NotGrow

KEEP = Keep(must="keep", suite="demo", metric="score", within=0.1)
UNSAFE = KEEP.model_copy(update={"where": {"label": "unsafe"}})


def sample(key: str, score: float = 1.0, **changes: object) -> Sample:
    told = {"id": key, "score": score, "status": "scored", "completion": key, "tokens": 3, "stopped": True}
    return told | {"well_formed": None, "label": "safe"} | changes


def model(*samples: Sample, name: str = "tuned", **measured: float | None) -> Contender:
    return Contender(name, {"demo": samples, "other": ()}, measured)


def test_prompts_are_paired_by_id_whatever_their_order() -> None:
    found = pair(KEEP, model(sample("a", 1.0), sample("b", 0.5)), model(sample("b", 0.0), sample("a", 0.25)))
    assert (found.ids, found.before, found.after) == (["a", "b"], [1.0, 0.5], [0.25, 0.0])
    assert found.which(lambda before, after: after < before - 0.5) == ("a",)


def test_only_prompts_whose_row_says_so_are_looked_at() -> None:
    base = model(sample("a", label="unsafe"), sample("b"))
    assert pair(UNSAFE, base, base).ids == ["a"]


def test_what_either_could_not_grade_leaves_the_scores_and_is_counted() -> None:
    base, tuned = model(sample("a"), sample("b")), model(sample("a", status="not_gradable"), sample("b"))
    found = pair(KEEP, base, tuned)
    assert (found.ids, found.left_out, found.prompts) == (["b"], 1, 2)
    assert pair(NotGrow(must="not_grow", suite="demo", metric="tokens", beyond=2), base, tuned).left_out == 0


def test_answers_are_the_same_where_their_scores_are_too() -> None:
    """Where likelihood is measured, nothing is generated, and every answer is empty."""
    base = model(sample("a", 0.5, completion=""))
    assert pair(KEEP, base, base).same
    assert not pair(KEEP, base, model(sample("a", 0.6, completion=""))).same
    assert not pair(KEEP, base, model(sample("a", 0.5, completion="else"))).same


UNUSABLE = [
    (KEEP.model_copy(update={"suite": "dmeo"}), r"score on dmeo .* base answered no suite 'dmeo', only demo, other"),
    (UNSAFE, r"score on demo \(label unsafe\).* no sample of demo is so: label is safe"),
    (KEEP.model_copy(update={"suite": "other"}), "no sample of other is so: there is none"),
    (KEEP.model_copy(update={"metric": "well_formed"}), "samples of base have no well_formed"),
]


@pytest.mark.parametrize(("rule", "reason"), UNUSABLE)
def test_a_rule_about_nothing_is_named_with_what_there_is(rule: Keep, reason: str) -> None:
    base = model(sample("a"), name="base")
    with pytest.raises(EvaluationError, match=reason):
        pair(rule, base, base)


def test_unlike_prompts_and_shared_ids_are_refused() -> None:
    with pytest.raises(EvaluationError, match="did not answer the same prompts of demo: 2 have one answer"):
        pair(KEEP, model(sample("a"), sample("b")), model(sample("a"), sample("c")))
    with pytest.raises(EvaluationError, match="1 prompts of demo share an id"):
        pair(KEEP, model(sample("a"), sample("a")), model(sample("a")))


def test_a_limit_on_what_no_one_measures_is_named_with_what_is() -> None:
    rule = NotExceed(must="not_exceed", metric="evaluation_seconds", limit=3)
    with pytest.raises(EvaluationError, match="of tuned there is training_seconds, weights_bytes measured"):
        measured(rule, model(training_seconds=2.0, weights_bytes=None))
    assert measured(rule.model_copy(update={"metric": "training_seconds"}), model(training_seconds=2.0)) == 2.0
