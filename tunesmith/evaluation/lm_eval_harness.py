"""Evaluate a model through lm-evaluation-harness. The only importer of lm_eval.

The model is handed over as an object, so that lm-eval evaluates the very model that was opened and verified. Our own
rows need no task of lm-eval: its model takes requests, and verifiers grade the answers.
"""

import hashlib
import json
import logging
from functools import cache
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Row, Sample
from tunesmith.evaluation.grading import Completion
from tunesmith.evaluation.suites import LmEvalTask
from tunesmith.models import chat
from tunesmith.models.loading import OpenModel
from tunesmith.models.shared_prompts import single_head_product

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of a model that is handed over as an object


class CountingLM(HFLM):
    """lm-eval's model, which also records the length of each answer.

    lm-eval returns text alone, in the order of the requests, and generates in an order of its own: lengths are keyed by
    the prompt's token ids. Equal prompts share an entry, as greedy decoding gives them equal answers.
    """

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
        for prompt, mask, sequence in zip(context, settings["attention_mask"], output, strict=True):
            generated = sequence[len(prompt) :].tolist()
            while generated and generated[-1] == self.tokenizer.pad_token_id:
                generated.pop()
            if self.eot_token_id in generated:
                generated = generated[: generated.index(self.eot_token_id) + 1]
            stopped = generated[-1:] == [self.eot_token_id] or len(generated) < max_length - len(prompt)
            self.lengths[tuple(prompt[mask.bool()].tolist())] = len(generated), stopped
        return output

    def completion(self, prompt: str, text: str) -> Completion:
        tokens, stopped = self.lengths[tuple(self.tok_encode(prompt))]
        return Completion(text, _sha256(prompt), tokens, stopped)


def generate(opened: OpenModel, rows: list[Row], *, max_new_tokens: int, batch_size: int) -> list[Completion]:
    """Greedy completions of ``rows``, in their order.

    Raises EvaluationError if a prompt leaves no room for an answer (lm-eval would cut it silently).
    """
    lm = CountingLM(opened, batch_size)
    prompts = [chat.render_prompt(opened.tokenizer, row["prompt"]) for row in rows]
    _check_room(lm, rows, prompts, max_new_tokens)
    settings = {"do_sample": False, "max_gen_toks": max_new_tokens, "until": [opened.tokenizer.eos_token]}
    requests = [Instance("generate_until", doc={}, arguments=(prompt, settings), idx=0) for prompt in prompts]
    with single_head_product(lm.model):
        texts = lm.generate_until(requests)
    return [lm.completion(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]


def run_task(name: str, suite: LmEvalTask, opened: OpenModel, *, batch_size: int) -> list[Sample]:
    """A sample for every document of a task of lm-eval, in its order, scored by the suite's metric.

    Raises EvaluationError if the task is not known, its data cannot be loaded, or it has no such metric.
    """
    lm = HFLM(pretrained=opened.model, tokenizer=opened.tokenizer, batch_size=batch_size)
    settings = {"num_fewshot": suite.examples, "limit": suite.limit, "apply_chat_template": suite.chat}
    try:
        samples = _samples(lm, suite.task, filter_name=suite.filter, **settings)
    except (KeyError, OSError, ValueError) as error:  # an unknown name; files and the network; YAML
        raise EvaluationError(
            f"suite {name!r}: lm-eval cannot run the task {suite.task!r}: {error}",
            fix="name a task of `lm-eval ls tasks`, whose data comes from the hub, or the path of a YAML file",
        ) from error
    if not all(_is_score(sample, suite.metric) for sample in samples):
        metrics = ", ".join(samples[0]["metrics"])
        raise EvaluationError(
            f"suite {name!r}: the task {suite.task!r} has no metric {suite.metric!r} from 0 to 1 for each sample",
            fix=f"set evaluate.suites.{name}.metric in params.yaml to one that is; it has {metrics}",
        )
    return [_task_sample(name, suite, sample) for sample in samples]


def _is_score(sample: dict[str, Any], metric: str) -> bool:
    value = sample.get(metric)
    return metric in sample["metrics"] and isinstance(value, int | float) and 0 <= value <= 1


def _task_sample(name: str, suite: LmEvalTask, sample: dict[str, Any]) -> Sample:
    """One of lm-eval's samples as ours. Its ``arguments`` are, for each request, the context and the continuation that
    is scored, or the settings of generation."""
    score = float(sample[suite.metric])
    return {
        "suite": name,
        "row": {
            "id": f"{name}-{sample['doc_id']}",
            "prompt": [{"role": "user", "content": sample["arguments"][0][0]}],
            "reference": str(sample["target"]),
        },
        "rendered": _sha256(json.dumps(sample["arguments"], sort_keys=True, default=str)),
        "completion": str(sample["filtered_resps"][0]) if isinstance(sample["filtered_resps"][0], str) else "",
        "tokens": None,
        "stopped": None,
        "well_formed": None,
        "score": score,
        "answer": None,
        "reason": f"{suite.metric} {score:g}",
        "status": "scored",
    }


def _samples(lm: HFLM, task: str, *, filter_name: str | None, **settings: Any) -> list[dict[str, Any]]:
    """lm-eval's samples of a task, as one filter read them, in the order of its documents; None is the first filter."""
    manager = _all_tasks() if not task.endswith((".yaml", ".yml")) else TaskManager(include_defaults=False)
    with single_head_product(lm.model):
        results = simple_evaluate(lm, tasks=[task], task_manager=manager, bootstrap_iters=0, **settings)
    assert results is not None
    if len(results["samples"]) != 1:
        raise ValueError(f"it is a group of {len(results['samples'])} tasks; make each a suite")
    [samples] = results["samples"].values()
    chosen = samples[0]["filter"] if filter_name is None else filter_name
    filtered = [sample for sample in samples if sample["filter"] == chosen]
    if not filtered:
        filters = ", ".join(sorted({sample["filter"] for sample in samples}))
        raise ValueError(f"it has no filter {filter_name!r}, only {filters}")
    return sorted(filtered, key=lambda sample: int(sample["doc_id"]))


@cache
def _all_tasks() -> TaskManager:
    """Every task that comes with lm-eval. Indexing them takes seconds, so a task in a file of its own does without."""
    return TaskManager()


def _check_room(lm: HFLM, rows: list[Row], prompts: list[str], max_new_tokens: int) -> None:
    room = lm.max_length - max_new_tokens
    long = [row["id"] for row, prompt in zip(rows, prompts, strict=True) if len(lm.tok_encode(prompt)) > room]
    if long:
        raise EvaluationError(
            f"{len(long)} prompts do not fit the model's context of {lm.max_length} tokens with {max_new_tokens} "
            f"left for the answer (rows {', '.join(long[:5])})",
            fix="lower the suite's max_new_tokens in params.yaml, or shorten those prompts",
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
