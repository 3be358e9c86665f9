"""Evaluate a model through lm-evaluation-harness. The only importer of lm_eval."""

import hashlib
import logging
import math
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from tunesmith import chat
from tunesmith.errors import EvaluationError
from tunesmith.evaluation import Completion
from tunesmith.models import OpenModel
from tunesmith.ready import Row, reference

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns that a model may be handed over, as is meant here

TASK_FILE = Path(__file__).parent / "tasks" / "ready_rows.yaml"
TASK = "ready_rows"
ROWS = pa.schema({name: pa.string() for name in ("id", "prompt", "reference", "verifier")})
"""Said aloud, because a reader of JSON would take references such as 2024-01-01 for dates."""


class CountingLM(HFLM):
    """lm-eval's model, which also notes how long each answer was: its text alone does not tell."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
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
        return Completion(text, hashlib.sha256(prompt.encode()).hexdigest(), tokens, stopped)


def generate_and_grade(
    opened: OpenModel, rows: list[Row], *, verifier: str, max_new_tokens: int, batch_size: int
) -> tuple[list[Completion], float]:
    """Greedy completions of ``rows``, in their order, and lm-eval's mean score over them.

    The model is handed over as an object: what lm-eval evaluates is what was opened and verified.
    Raises EvaluationError where a prompt leaves no room for an answer (lm-eval would cut it silently).
    """
    docs = [
        {
            "id": row["id"],
            "prompt": chat.render_prompt(opened.tokenizer, row["prompt"]),
            "reference": reference(row),
            "verifier": verifier,
        }
        for row in rows
    ]
    lm = CountingLM(
        pretrained=opened.model,
        tokenizer=opened.tokenizer,
        batch_size=batch_size,
        add_bos_token=False,  # the template has written every special token
    )
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
        manager = TaskManager(include_defaults=False)
        results = simple_evaluate(lm, tasks=[str(task_file)], task_manager=manager, bootstrap_iters=0)
    assert results is not None
    samples = sorted(results["samples"][TASK], key=lambda sample: int(sample["doc_id"]))
    mean = results["results"][TASK].get("score,none", math.nan)
    completions = [lm.completion(sample["doc"]["prompt"], sample["filtered_resps"][0]) for sample in samples]
    return completions, float(mean)


def _check_room(lm: HFLM, docs: list[dict[str, str]], max_new_tokens: int) -> None:
    room = lm.max_length - max_new_tokens
    long = [doc["id"] for doc in docs if len(lm.tok_encode(doc["prompt"])) > room]
    if long:
        raise EvaluationError(
            f"{len(long)} prompts do not fit the model's context of {lm.max_length} tokens with {max_new_tokens} "
            f"left for the answer (rows {', '.join(long[:5])})",
            fix="lower evaluate.max_new_tokens in params.yaml, or shorten those prompts",
        )
