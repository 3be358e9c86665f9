"""A model's answers as MLflow traces with assessments, which its view of evaluation runs sets side by side.

Only some prompts, the same for every model; `samples.json` of the run has them all. MLflow's documented calls would log
each trace and each assessment in requests of their own, three times as slowly, and swallow errors; so traces go through
its `TracingClient`.
"""

import hashlib
import json
from collections.abc import Iterator
from itertools import groupby

from tunesmith.core.ready_rows import Sample, content_text
from tunesmith.registry.runs import Experiment
from tunesmith.registry.tracker import raising_registry_errors, tracking_uri

# isort: split
from mlflow.entities import AssessmentSource, Expectation, Feedback, Span, TraceInfo, TraceLocation, TraceState
from mlflow.tracing.client import TracingClient

LIMIT = 24
"""Answers of a model that become traces, of all suites together."""
PUBLISHED = "tunesmith.traces"
"""The tag of a run with the digest of the evaluation whose answers are its traces."""
SOURCE = AssessmentSource(source_type="CODE", source_id="tunesmith")


def publish(
    experiment: Experiment, run: str, samples: list[Sample], *, digest: str, time: int, model: str | None = None
) -> None:
    """Replace the traces of a run by those of an evaluation, unless they are there.

    digest: that of the samples. time: the evaluation's, in milliseconds since the epoch. model: the id of the logged
    model that answered, if there is one.
    """
    with raising_registry_errors(experiment.uri):
        client, tracing = experiment.client, TracingClient(tracking_uri())
        if client.get_run(run).data.tags.get(PUBLISHED) == digest:
            return
        earlier = client.search_traces(locations=[experiment.id], run_id=run, include_spans=False)
        if ids := [trace.info.trace_id for trace in earlier]:
            client.delete_traces(experiment.id, trace_ids=ids)
        metadata = {"mlflow.sourceRun": run} | ({"mlflow.modelId": model} if model else {})
        spans = []
        for sample in _some_of_each_suite(samples):
            request = f"{sample['suite']}/{sample['row']['id']}"
            key = hashlib.sha256(f"{run} {digest} {request}".encode()).hexdigest()[:32]
            tracing.start_trace(
                TraceInfo(
                    f"tr-{key}",
                    TraceLocation.from_experiment_id(experiment.id),
                    time,
                    TraceState.OK,
                    request_preview=content_text(sample["row"]["prompt"][-1]),
                    response_preview=sample["completion"],
                    client_request_id=request,
                    trace_metadata=metadata,
                    tags={"mlflow.traceName": sample["suite"]},
                    assessments=[*_assessments(sample)],
                )
            )
            spans.append(_span(key, sample, time))
        tracing.log_spans(experiment.id, spans)
        experiment.log(run, tags={PUBLISHED: digest})


def _some_of_each_suite(samples: list[Sample]) -> Iterator[Sample]:
    answered = [sample for sample in samples if sample["tokens"] is not None]
    suites = [list(suite) for _, suite in groupby(answered, key=lambda sample: sample["suite"])]
    for suite in suites:
        yield from suite[: max(1, LIMIT // len(suites))]


def _assessments(sample: Sample) -> list[Feedback | Expectation]:
    assessments: list[Feedback | Expectation] = []
    if sample["status"] != "not_gradable":
        score, reason = sample["score"], sample["reason"] or None
        assessments.append(Feedback(name="score", value=score, rationale=reason, source=SOURCE))
    if (reference := sample["row"].get("reference")) is not None:
        assessments.append(Expectation(name="right answer", value=reference, source=SOURCE))
    return assessments


def _span(key: str, sample: Sample, time: int) -> Span:
    attributes = {
        "mlflow.traceRequestId": f"tr-{key}",
        "mlflow.spanType": "CHAT_MODEL",
        "mlflow.spanInputs": {"messages": sample["row"]["prompt"]},
        "mlflow.spanOutputs": sample["completion"],
    }
    return Span.from_dict(
        {
            "name": sample["suite"],
            "trace_id": f"tr-{key}",
            "span_id": key[:16],
            "parent_span_id": None,
            "start_time_unix_nano": time * 10**6,
            "end_time_unix_nano": time * 10**6,
            "status": {"code": "OK"},
            "events": [],
            "attributes": {name: json.dumps(value) for name, value in attributes.items()},
        }
    )
