"""Evaluate a model through lm-evaluation-harness. The only importer of lm_eval.

The model is handed over as an object: what lm-eval evaluates is what was opened and verified.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Row, Sample
from tunesmith.evaluation.grading import Completion
from tunesmith.evaluation.suites import Task
from tunesmith.models import chat
from tunesmith.models.loading import OpenModel
from tunesmith.models.shared_prompts import one_product

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns that a model may be handed over, as is meant here

TASK_FILE = Path(__file__).parent / "lm_eval_tasks" / "ready_rows.yaml"
ROWS = pa.schema({name: pa.string() for name in ("id", "prompt")})


class CountingLM(HFLM):
    """lm-eval's model, which also notes how long each answer was: its text alone does not tell."""

    def __init__(self, opened: OpenModel, batch_size: int) -> None:
        super().__init__(
            pretrained=opened.model,
            tokenizer=opened.tokenizer,
            batch_size=batch_size,
            add_bos_token=False,  # the template has written every special token
        )
        self.lengths: dict[tuple[int, ...], tuple[int, bool]] = {}
        """Tokens of a prompt -> (tokens generated, end of turn included; whether there was one)."""

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **settings: Any) -> Any:
        output = super()._model_generate(context, max_length, stop, **settings)
        for asked, mask, whole in zip(context, settings["attention_mask"], output, strict=True):
            generated = whole[len(asked) :].tolist()
            while generated and generated[-1] == self.tokenizer.pad_token_id:
                generated.pop()
            if self.eot_token_id in generated:
                generated = generated[: generated.index(self.eot_token_id) + 1]
            stopped = generated[-1:] == [self.eot_token_id] or len(generated) < max_length - len(asked)
            self.lengths[tuple(asked[mask.bool()].tolist())] = len(generated), stopped
        return output

    def completion(self, prompt: str, text: str) -> Completion:
        tokens, stopped = self.lengths[tuple(self.tok_encode(prompt))]
        return Completion(text, _sha256(prompt), tokens, stopped)


def generate(opened: OpenModel, rows: list[Row], *, max_new_tokens: int, batch_size: int) -> list[Completion]:
    """Greedy completions of ``rows``, in their order.

    Raises EvaluationError where a prompt leaves no room for an answer (lm-eval would cut it silently).
    """
    docs = [{"id": row["id"], "prompt": chat.render_prompt(opened.tokenizer, row["prompt"])} for row in rows]
    lm = CountingLM(opened, batch_size)
    _check_room(lm, docs, max_new_tokens)
    with tempfile.TemporaryDirectory() as scratch:
        rows_file, task_file = Path(scratch) / "test.parquet", Path(scratch) / "task.yaml"
        pq.write_table(pa.Table.from_pylist(docs, ROWS), rows_file)
        task = {
            "include": str(TASK_FILE),
            "dataset_kwargs": {"data_files": {"test": str(rows_file)}, "cache_dir": scratch},
            "generation_kwargs": {
                "do_sample": False,
                "max_gen_toks": max_new_tokens,
                "until": [opened.tokenizer.eos_token],
            },
        }
        task_file.write_text(yaml.safe_dump(task))
        samples = _samples(lm, str(task_file), predict_only=True)
    return [lm.completion(sample["doc"]["prompt"], sample["filtered_resps"][0]) for sample in samples]


def run_task(name: str, suite: Task, opened: OpenModel, *, batch_size: int) -> list[Sample]:
    """A sample for every question of a task of lm-eval, in its order, scored by the suite's metric.

    Raises EvaluationError where the task is not known, its data cannot be had, or it has no such metric.
    """
    lm = HFLM(pretrained=opened.model, tokenizer=opened.tokenizer, batch_size=batch_size)
    settings = {"num_fewshot": suite.examples, "limit": suite.limit, "apply_chat_template": suite.chat}
    try:
        found = _samples(lm, suite.task, reading=suite.filter, **settings)
    except (KeyError, OSError, ValueError) as error:  # of names, of files and the network, of YAML
        raise EvaluationError(
            f"suite {name!r}: lm-eval cannot run the task {suite.task!r}: {error}",
            fix="name a task of `lm-eval ls tasks`, whose data comes from the hub, or the path of a YAML file",
        ) from error
    if not all(_is_score(sample, suite.metric) for sample in found):
        raise EvaluationError(
            f"suite {name!r}: the task {suite.task!r} has no metric {suite.metric!r} from 0 to 1 for each sample",
            fix=f"set evaluate.suites.{name}.metric in params.yaml to one that is, of {', '.join(found[0]['metrics'])}",
        )
    return [_task_sample(name, suite, sample) for sample in found]


def _is_score(sample: dict[str, Any], metric: str) -> bool:
    value = sample.get(metric)
    return metric in sample["metrics"] and isinstance(value, int | float) and 0 <= value <= 1


def _task_sample(name: str, suite: Task, sample: dict[str, Any]) -> Sample:
    """arguments: of each request, the text before and the text that is scored, or how to generate."""
    asked = sample["arguments"][0][0]
    score = float(sample[suite.metric])
    return {
        "suite": name,
        "id": f"{name}-{sample['doc_id']}",
        "prompt": [{"role": "user", "content": asked}],
        "rendered": _sha256(json.dumps(sample["arguments"], sort_keys=True, default=str)),
        "reference": str(sample["target"]),
        "completion": str(sample["filtered_resps"][0]) if isinstance(sample["filtered_resps"][0], str) else "",
        "tokens": None,
        "stopped": None,
        "well_formed": None,
        "score": score,
        "answer": None,
        "reason": f"{suite.metric} {score:g}",
        "status": "scored",
    }


def _samples(lm: HFLM, task: str, *, reading: str | None = None, **settings: Any) -> list[dict[str, Any]]:
    """What lm-eval says of every document of a task, in their order. reading: the filter; null takes the first."""
    manager = _known_tasks() if not task.endswith((".yaml", ".yml")) else TaskManager(include_defaults=False)
    with one_product(lm.model):
        results = simple_evaluate(lm, tasks=[task], task_manager=manager, bootstrap_iters=0, **settings)
    assert results is not None
    samples = _only(results["samples"].values())
    chosen = samples[0]["filter"] if reading is None else reading
    read = [sample for sample in samples if sample["filter"] == chosen]
    if not read:
        known = ", ".join(sorted({sample["filter"] for sample in samples}))
        raise ValueError(f"it has no filter {reading!r}, only {known}")
    return sorted(read, key=lambda sample: int(sample["doc_id"]))


@cache
def _known_tasks() -> TaskManager:
    """Every task that comes with lm-eval: seconds to index, which a task of one's own need not wait for."""
    return TaskManager()


def _only(samples: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The samples of one task. Raises ValueError for a group of several."""
    found = list(samples)
    if len(found) != 1:
        raise ValueError(f"it is a group of {len(found)} tasks; make each a suite")
    return found[0]


def _check_room(lm: HFLM, docs: list[dict[str, str]], max_new_tokens: int) -> None:
    room = lm.max_length - max_new_tokens
    long = [doc["id"] for doc in docs if len(lm.tok_encode(doc["prompt"])) > room]
    if long:
        raise EvaluationError(
            f"{len(long)} prompts do not fit the model's context of {lm.max_length} tokens with {max_new_tokens} "
            f"left for the answer (rows {', '.join(long[:5])})",
            fix="lower the suite's max_new_tokens in params.yaml, or shorten those prompts",
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
