"""Evaluate a model through lm-evaluation-harness. The only importer of lm_eval."""

import math
import tempfile
from pathlib import Path
from typing import Any

import yaml
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from tunesmith import chat, records
from tunesmith.errors import EvaluationError
from tunesmith.models import OpenModel

TASK_FILE = Path(__file__).parent / "tasks" / "ready_rows.yaml"
TASK = "ready_rows"


def generate_and_grade(
    opened: OpenModel, rows: list[dict[str, Any]], *, verifier: str, max_new_tokens: int, batch_size: int
) -> tuple[list[str], float]:
    """Greedy completions of ``rows``, in their order, and lm-eval's mean score over them.

    The model is handed over as an object: what lm-eval evaluates is what was opened and verified.
    Raises EvaluationError where a prompt leaves no room for an answer (lm-eval would cut it silently).
    """
    docs = [
        {
            "id": row["id"],
            "prompt": chat.render_prompt(opened.tokenizer, row["prompt"]),
            "reference": row["completion"][-1]["content"],
            "verifier": verifier,
        }
        for row in rows
    ]
    lm = HFLM(
        pretrained=opened.model,
        tokenizer=opened.tokenizer,
        batch_size=batch_size,
        add_bos_token=False,  # the template has written every special token
    )
    _check_room(lm, docs, max_new_tokens)
    with tempfile.TemporaryDirectory() as scratch:
        rows_file, task_file = Path(scratch) / "test.jsonl", Path(scratch) / "task.yaml"
        records.write_jsonl(rows_file, docs)
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
    return [sample["filtered_resps"][0] for sample in samples], float(mean)


def _check_room(lm: HFLM, docs: list[dict[str, str]], max_new_tokens: int) -> None:
    room = lm.max_length - max_new_tokens
    long = [doc["id"] for doc in docs if len(lm.tok_encode(doc["prompt"])) > room]
    if long:
        raise EvaluationError(
            f"{len(long)} prompts do not fit the model's context of {lm.max_length} tokens with {max_new_tokens} "
            f"left for the answer (rows {', '.join(long[:5])})",
            fix="lower evaluate.max_new_tokens in params.yaml, or shorten those prompts",
        )
