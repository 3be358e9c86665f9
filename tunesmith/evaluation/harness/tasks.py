"""Tasks of lm-eval: find one or a group, load its data once, and ask a model."""

import difflib
import hashlib
import json
import random
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import nltk
import numpy as np
import torch
from lm_eval.api.model import TemplateLM
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from tunesmith.core import layout, manifest
from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation.harness import scores
from tunesmith.evaluation.harness.opened_lm import OpenedLM
from tunesmith.evaluation.harness.scores import Loaded
from tunesmith.evaluation.suites import LmEvalTask
from tunesmith.models.attention.packed_attention import backbone
from tunesmith.models.images import forward
from tunesmith.models.rendering import style

NOT_CACHED = "Couldn't find cache for"
"""The beginning of the message of `datasets` for a data set of which only another configuration is cached."""


class UncutLM(OpenedLM):
    """lm-eval's model, which refuses a prompt to answer that lm-eval would cut to fit the context.

    A base that reads images is asked texts alone, and writes no image token.
    """

    def tok_batch_encode(
        self, strings: list[str], padding_side: str = "left", left_truncate_len: int | None = None, **settings: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ids, mask = super().tok_batch_encode(strings, padding_side=padding_side, **settings)
        if left_truncate_len is not None and ids.shape[1] > left_truncate_len:
            raise too_long(ids.shape[1], left_truncate_len, self.max_length)
        return ids, mask

    def apply_chat_template(self, chat_history: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
        return str(super().apply_chat_template(style.in_parts(self.tokenizer, chat_history), add_generation_prompt))

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **settings: Any) -> Any:
        seeing = forward.for_generation(backbone(self.model), context)
        return super()._model_generate(context, max_length, stop, **settings, **seeing)


def too_long(tokens: int, room: int, context: int) -> EvaluationError:
    """The error for a prompt of a task that does not leave room for its answer in the model's context."""
    return EvaluationError(
        f"a prompt of a task of lm-eval has {tokens} tokens; with room for the answer, {room} fit the model's context "
        f"of {context}",
        fix="give the suite fewer `examples` in params.yaml, or leave the task out for this base",
    )


def load(name: str, suite: LmEvalTask) -> Loaded:
    """Find a suite's task or group, and load its data from this machine or the hub.

    Raises EvaluationError where the name is not known, the data cannot be had, or a package or permission is missing.
    """
    manager, task = _find(name, suite)
    try:
        loaded = manager.load([task])
    except ImportError as error:
        raise EvaluationError(
            f"suite {name!r}: the task {suite.task!r} needs a package that is not installed: {error}",
            fix=f"install it (`pip install {error.name}`; lm-eval's extras bundle such packages), in the same "
            "version wherever this project is evaluated",
        ) from error
    except Exception as error:  # YAML, templates and functions of the task, and every way in which a download fails
        if _is_offline(error):
            raise _offline(name, suite, error) from error
        raise EvaluationError(
            f"suite {name!r}: lm-eval cannot load the task {suite.task!r}: {type(error).__name__}: {error}",
            fix="correct its YAML file, or its data set's name; for a gated data set, set HF_TOKEN",
        ) from error
    tasks = loaded["tasks"]
    for each in tasks.values():
        _check_can_grade(name, suite, each)
        if suite.examples is not None or each.get_config("num_fewshot") is None:
            each.set_config("num_fewshot", suite.examples or 0)
    return Loaded(name, suite, tasks, suite.metric or _first_metric(loaded))


def ask(loaded: Loaded, lm: TemplateLM) -> list[Sample]:
    """A sample for every document of every task, in their order.

    lm: the model as lm-eval asks it. Raises EvaluationError if a task has no such filter, or no such metric with a
    value for each prompt, if its prompts and answers do not fit the model's context, or if lm-eval scored fewer
    documents than it was given.
    """
    suite, tasks = loaded.suite, loaded.tasks
    for task in tasks.values():
        _check_room(loaded, task, lm)
        task.set_fewshot_seed(DEFAULT_OTHER_SEED)
    generates = any(task.OUTPUT_TYPE == "generate_until" for task in tasks.values())
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    torch.manual_seed(DEFAULT_OTHER_SEED)
    results = evaluate(  # its `simple_evaluate` also starts programs to describe the machine, for seconds
        lm,
        {"tasks": tasks},
        limit=suite.limit,
        bootstrap_iters=0,
        apply_chat_template=generates if suite.chat is None else suite.chat,
        fewshot_as_multiturn=True,
    )
    assert results is not None
    samples = []
    for task, asked in tasks.items():
        scored = scores.filtered(loaded, task, results["samples"][task])
        _check_all_scored(loaded.name, task, len(scored), sum(1 for _ in asked.doc_iterator(limit=suite.limit)))
        samples += [scores.sample_of(loaded, task, sample) for sample in scored]
    return samples


def _check_all_scored(suite: str, task: str, scored: int, asked: int) -> None:
    """Raise EvaluationError unless every document that was asked was scored."""
    if scored != asked:
        raise EvaluationError(
            f"suite {suite!r}: lm-eval scored {scored} of the {asked} documents of {task} that it was given",
            fix="correct the task: a filter of its YAML may drop answers",
        )


def digest(loaded: Loaded) -> str:
    """SHA-256, in hex, over everything that is asked: every document with its examples, and the user's files."""
    sums = hashlib.sha256()
    for name, task in loaded.tasks.items():
        examples = task.get_config("num_fewshot")
        task.set_fewshot_seed(DEFAULT_OTHER_SEED)
        for _, doc in task.doc_iterator(limit=loaded.suite.limit):
            asked = [name, task.fewshot_context(doc, num_fewshot=examples), doc]
            sums.update(json.dumps(asked, sort_keys=True, default=str).encode())
    if (folder := _folder(loaded.suite)) is not None:
        tasks = layout.TASKS.resolve()  # which may include each other
        folder = tasks if folder.is_relative_to(tasks) else folder
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if "__pycache__" not in path.parts:
                sums.update(f"{path.relative_to(folder)} {manifest.file_digest(path)}\n".encode())
    return sums.hexdigest()


def _find(name: str, suite: LmEvalTask) -> tuple[TaskManager, str]:
    """The index that knows a suite's task, and the task's name in it, or its path."""
    folder, task = _folder(suite), suite.task
    if folder is not None:
        own = _index(folder, lm_evals=False)
        path = Path(task).resolve()
        named = [key for key, entry in own.task_index.items() if entry.yaml_path and entry.yaml_path.resolve() == path]
        task = named[0] if suite.is_file and named else task
        if _is_complete(task, own.task_index) or (task == suite.task and path.is_file()):
            return own, task
    everything = _index(folder, lm_evals=True)
    if task not in everything.task_index:
        close = difflib.get_close_matches(task, everything.all_tasks, n=3)
        meant = f"; did you mean {', '.join(close)}?" if close else ""
        missing = "no such file" if suite.is_file else f"not a task, group or tag of lm-eval's{meant}"
        raise EvaluationError(
            f"suite {name!r}: lm-eval cannot find the task {task!r}: {missing}",
            fix=f"name in evaluate.suites.{name}.task a task of `lm-eval ls tasks`, or the path of a YAML file",
        )
    return everything, task


def _folder(suite: LmEvalTask) -> Path | None:
    """The folder of the YAML files that may be named beside lm-eval's own."""
    folder = suite.include_path or (Path(suite.task).parent if suite.is_file else None)
    return folder and folder.resolve()


@cache
def _index(folder: Path | None, *, lm_evals: bool) -> TaskManager:
    """The tasks of a folder, with all that come with lm-eval or without, which saves many seconds."""
    if lm_evals:
        print("  reading the index of lm-eval's tasks, for one that is named", flush=True)
    return TaskManager(include_path=str(folder) if folder else None, include_defaults=lm_evals)


def _is_complete(name: str, index: Mapping[str, Any]) -> bool:
    """Whether the index has a task, and for a group every task that it names."""
    if name not in index:
        return False
    config = index[name].cfg or {}
    members = config["task"] if "group" in config and isinstance(config.get("task"), list) else []
    names = [member if isinstance(member, str) else member.get("group", member.get("task")) for member in members]
    return all(_is_complete(member, index) for member in names)


def _is_offline(error: BaseException | None) -> bool:
    """Whether an error says that data is neither in the cache nor to be downloaded."""
    while error is not None:
        # httpx derives its error from no error of Python's; `datasets` may have another configuration of the data set.
        if isinstance(error, ConnectionError) or type(error).__name__ == "ConnectError" or NOT_CACHED in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _offline(name: str, suite: LmEvalTask, error: Exception) -> EvaluationError:
    folder = f"include_path={str(suite.include_path)!r}" if suite.include_path else ""
    command = f"from lm_eval.tasks import TaskManager; TaskManager({folder}).load([{suite.task!r}])"
    return EvaluationError(
        f"suite {name!r}: the data of the task {suite.task!r} is not on this machine, and the hub does not answer: "
        f"{error}",
        fix=f'run `python -c "{command}"` once with a network; the data then stays in the cache of `datasets` '
        "(HF_HOME), which can also be copied here",
    )


def _check_room(loaded: Loaded, task: Any, lm: Any) -> None:
    settings = task.get_config("generation_kwargs") or {}
    longest = int(settings.get("max_gen_toks", lm.max_gen_toks))
    if task.OUTPUT_TYPE == "generate_until" and longest >= lm.max_length:
        raise EvaluationError(
            f"suite {loaded.name!r}: the task {loaded.suite.task!r} asks for answers of up to {longest} tokens, which "
            f"leaves a prompt no room in the model's context of {lm.max_length}",
            fix="leave the task out for this base, or copy its YAML file into data/tasks with a lower max_gen_toks",
        )


def _check_can_grade(name: str, suite: LmEvalTask, task: Any) -> None:
    """Raise EvaluationError, before any model is asked, for what would stop or endanger the grading of its answers."""
    if getattr(task, "UNSAFE_CODE", False):
        raise EvaluationError(
            f"suite {name!r}: the task {suite.task!r} runs code that a model wrote, without a sandbox",
            fix="make its rows a data set, and evaluate it by a suite of kind answers with the verifier code",
        )
    if ".ifeval." in str(getattr(task.get_config("process_results"), "__module__", "")):
        try:
            nltk.data.find("tokenizers/punkt_tab")  # IFEval tries to download it, and misses it only when it grades
        except LookupError:
            raise EvaluationError(
                f"suite {name!r}: the task {suite.task!r} splits sentences by NLTK's punkt_tab, which is not here",
                fix="run `python -m nltk.downloader punkt_tab` once with a network, or copy ~/nltk_data here; a suite "
                "of kind answers with the verifier instructions needs none",
            ) from None


def _first_metric(loaded: Any) -> str:
    """The first metric that the group reports, or else its first task."""
    for group in loaded.get("groups", {}).values():
        for aggregate in group.aggregate_metric_list or []:
            return str(aggregate.metric)
    return str(next(iter(next(iter(loaded["tasks"].values())).aggregation())))
