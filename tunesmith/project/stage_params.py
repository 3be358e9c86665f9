"""The effective params that each stage reads: the contents of build/params."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core import params
from tunesmith.evaluation.suites import Answers
from tunesmith.project.document import Document, effective
from tunesmith.training.entries.grpo import Grpo
from tunesmith.training.entries.online import Online

REFERENCE = {"dataset", "start", "weights", "lora", "max_length", "batch_size"}
"""Params of a DPO entry that determine its reference log-probabilities."""


@dataclass(frozen=True)
class StageParams:
    """The params of a stage, or of one entry of it.

    values: sections nested as in params.yaml, with every default, and lists of the names of entries.
    """

    stage: str
    entry: str | None
    values: dict[str, object]

    @property
    def path(self) -> Path:
        """The file in build/params."""
        return params.resolved(self.stage, self.entry)


def of(document: Document) -> Iterator[StageParams]:
    """The params of every stage of the pipeline, and of each of its entries."""
    image: dict[str, object] = {"runtime": {"image": document.runtime.image}}
    yield StageParams("generate_demo", None, {"demo": document.demo})
    yield StageParams("fetch_base", None, {"base_model": effective(document.base_model), **image})
    for name, dataset in document.data.items():
        yield StageParams("prepare_data", name, {"data": {name: effective(dataset)}})
    for name, mixture in document.mixtures.items():
        yield StageParams("mix", name, {"mixtures": {name: effective(mixture)}})
    for name, (objective, entry) in document.trainings.items():
        judged = isinstance(entry, Grpo) and entry.refusal_by == "judge"
        judge: dict[str, object] = {"judge": effective(document.judge)} if judged and document.judge else {}
        values: dict[str, object] = {objective: {name: effective(entry)}, **judge, **image}
        if isinstance(entry, Online) and entry.rollouts.engine == "vllm":
            values["engine"] = effective(document.engine)
        yield StageParams(f"train_{objective}", name, values)
    for name, dpo in document.dpo.items():
        yield StageParams("reference", name, {"dpo": {name: dpo.model_dump(mode="json", include=REFERENCE)}, **image})
    for name, merged in document.package.merged.items():
        yield StageParams("merge", name, {"package": {"merged": {name: effective(merged)}}, **image})
    yield StageParams("baseline", None, _of_baseline(document))
    yield from _of_all_models(document, image)


def _of_baseline(document: Document) -> dict[str, object]:
    """The params of the stage that asks a hosted model; none where params.yaml names no such model."""
    if document.baseline is None:
        return {}
    asked = {
        name: suite.model_dump(mode="json", include={"dataset", "limit", "max_new_tokens"})
        for name, suite in document.evaluate.suites.items()
        if suite.kind == "answers"
    }
    return {"baseline": effective(document.baseline), "suites": asked}


def _of_all_models(document: Document, image: dict[str, object]) -> Iterator[StageParams]:
    """The params of the stages that read every model."""
    suites = document.evaluate.suites.values()
    judged = any(isinstance(suite, Answers) and suite.refusal_by == "judge" for suite in suites)
    judge: dict[str, object] = {"judge": effective(document.judge)} if judged and document.judge else {}
    evaluate = {"evaluate": effective(document.evaluate), "models": document.models, **judge, **image}
    evaluate["engine"] = effective(document.engine)
    yield StageParams("evaluate", None, evaluate)
    yield StageParams(
        "compare",
        None,
        {
            "compare": effective(document.compare),
            "gate": effective(document.gate),
            "models": document.models,
            "sweeps": {name: effective(swept) for name, swept in document.sweeps.items()},
            "reward_models": list(document.reward),
            "trained_on": sorted({entry.dataset for _, entry in document.trainings.values()}),
        },
    )
    yield StageParams(
        "register",
        None,
        {
            "models": document.models,
            "registry": effective(document.registry),
            "signing": effective(document.signing),
            "serve": document.serve.model_dump(mode="json", include={"probes", "max_lora_rank"}),
            "package": document.package.model_dump(mode="json", include={"license"}),
        },
    )
