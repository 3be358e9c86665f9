"""How lm-eval grades a row of ready_rows.yaml: by the verifier that the row names."""

from typing import Any

from tunesmith.verifiers import VERIFIERS


def grade(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """{"score": 0..1}; {} for a row that cannot be graded, which leaves it out of lm-eval's mean."""
    verdict = VERIFIERS[doc["verifier"]](results[0], doc["reference"])
    return {} if verdict.status == "not_gradable" else {"score": verdict.score}
