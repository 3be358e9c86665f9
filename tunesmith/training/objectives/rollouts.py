"""Rollouts, shared by GRPO and RLOO: the policy answers each prompt several times, and each answer has a reward."""

import copy
import json
import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.utils import add_fused_lm_head

from tunesmith.core.errors import DataError, ParamsError, TrainingError
from tunesmith.core.ready_rows import Row, dumps
from tunesmith.models import chat, collectives, device, generation
from tunesmith.models.attention.shared_prompts import SharedPrompts
from tunesmith.models.device import Profile
from tunesmith.models.images import parts
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import Tokens, likelihoods
from tunesmith.training import batch_order
from tunesmith.training.entries.online import Online
from tunesmith.training.fit import Batchable
from tunesmith.training.measurements import Graded
from tunesmith.training.objectives.engine_policy import EnginePolicy
from tunesmith.training.spec import LargestStep
from tunesmith.training.trainer_config import common

AGREEING, AGREEING_TOKENS = 8, 32
"""Maximum number of prompts whose completions are compared, and of tokens of each."""
DISAGREEMENT = 0.1
"""Nats a token. Rounding to bfloat16 makes about 0.01 of difference, another adapter or template more than 0.5."""


def arguments(online: Online, profile: Profile, scratch: Path) -> dict[str, Any]:
    """Arguments for TRL's GRPOConfig and RLOOConfig alike."""
    return {
        **common(online, profile, scratch),
        "gradient_accumulation_steps": online.prompts * online.group // online.batch_size,
        "max_steps": online.steps,
        "shuffle_dataset": False,  # `dataset` has shuffled them
        "num_generations": online.group,
        "max_completion_length": online.max_new_tokens,
        "num_iterations": online.num_iterations,
        "epsilon": online.epsilon,
        "epsilon_high": online.epsilon_high,
        "mask_truncated_completions": online.mask_truncated_completions,
        "temperature": online.temperature,
        # TRL would load the reference of a policy without adapter from disk, where its start need not be.
        "beta": 0.0 if online.weights == "full" else online.beta,
        "remove_unused_columns": False,
    }


def check(policy: OpenModel, rows: list[Row], online: Online, section: str, source: Path) -> list[int]:
    """The tokens of each prompt.

    Raises DataError that counts the prompts that are too long, or where there are too few for a step, and ParamsError
    where vLLM is to answer prompts with images, which reach it as tokens alone.
    """
    if online.rollouts.engine == "vllm" and any(parts.images(row["prompt"]) for row in rows):
        raise ParamsError(
            f"{section}.rollouts.engine is vllm, and {source} has images, which transformers alone sees in a training",
            fix="set it to transformers",
        )
    lengths = [len(chat.encode_prompt(policy.tokenizer, row["prompt"], row.get("tools"))) for row in rows]
    long = [length for length in lengths if length > online.max_prompt_length]
    if long:
        raise DataError(
            f"{source}: {len(long)} of {len(rows)} prompts are longer than {section}.max_prompt_length "
            f"({online.max_prompt_length} tokens)",
            fix=f"set it to at least {max(long)} in params.yaml, or lower the dataset's max_length",
        )
    if len(rows) < online.prompts:
        raise DataError(
            f"{source}: {len(rows)} prompts to train on, and a step takes {online.prompts} ({section}.prompts)",
            fix=f"lower {section}.prompts in params.yaml, or give it more prompts",
        )
    return lengths


def dataset(rows: list[Row], online: Online) -> Dataset:
    """The prompts of all steps, in their order, as a data set with columns row_id, prompt and row.

    prompt, which is its turns and its tools, and row are JSON, since Arrow would give all messages the same fields.
    """
    drawn = batch_order.drawn(rows, online.steps // online.num_iterations * online.prompts, seed=online.seed)
    columns = {
        "row_id": [row["id"] for row in drawn],
        "prompt": [json.dumps([row["prompt"], row.get("tools")]) for row in drawn],
        "row": [dumps(row).decode() for row in drawn],
    }
    return Dataset.from_dict(columns)


def image_tokens(tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> int:
    """The most tokens that the images of a row take."""
    seen = parts.read_by(tokenizer)
    return 0 if seen is None else max(seen.tokens(parts.images(row["prompt"])) for row in rows)


def largest_step(online: Online, longest_prompt: int, batch_size: int, image_tokens: int = 0) -> LargestStep:
    """The completions of a step, each as long as it may be. longest_prompt: in tokens. image_tokens: of a prompt, at
    most.
    """
    return LargestStep(
        batch=batch_size,
        length=longest_prompt + online.max_new_tokens,
        completion=online.max_new_tokens,
        rollouts=online.prompts * online.group,
        group=online.group,
        reference=online.beta > 0,
        shapes=min(online.steps, longest_prompt) + online.max_new_tokens,
        image_tokens=image_tokens,
    )


def batchable(online: Online, longest_prompt: int, image_tokens: int = 0) -> Batchable:
    """What batches are made of."""
    return Batchable(lambda batch: largest_step(online, longest_prompt, batch, image_tokens))


def check_agreement(policy: OpenModel, rows: list[Row], online: Online, engine: EnginePolicy | None = None) -> float:
    """The difference between generation and training in the log-probability of a completion, in nats a token.

    engine: vLLM, where it generates. Raises TrainingError where the difference is more than noise: the policy
    would then learn from answers that it did not give.
    """
    prompts = [chat.encode_prompt(policy.tokenizer, row["prompt"], row.get("tools")) for row in rows[:AGREEING]]
    most = min(online.max_new_tokens, AGREEING_TOKENS)
    if engine is not None:
        generated = [(each.tokens, sum(each.log_probs)) for each in engine.greedy(prompts, max_new_tokens=most)]
    else:
        with device.autocast(policy.profile):
            generated = generation.greedy_log_probs(policy.model, policy.tokenizer, prompts, max_new_tokens=most)
    examples = [(prompt, completion) for prompt, (completion, _) in zip(prompts, generated, strict=True)]
    trained = likelihoods(policy, examples, batch_size=online.batch_size)
    difference = fmean(
        abs(log_prob - each.log_prob) / len(completion)
        for (completion, log_prob), each in zip(generated, trained, strict=True)
    )
    if difference > DISAGREEMENT:
        raise TrainingError(
            "generation and training disagree about the policy: the same completions differ by "
            f"{difference:.3g} nats a token",
            fix="report this with your params.yaml and base model; nothing was trained",
        )
    return difference


def validation(
    policy: OpenModel,
    rows: list[Row],
    online: Online,
    reward: Callable[[list[str], list[Row]], list[float | None]],
    engine: EnginePolicy | None = None,
) -> Callable[[], Graded] | None:
    """A function that measures the mean reward of greedy answers to held-out prompts; None without prompts.

    reward: the rewards of one answer to each row; None for an answer that cannot be graded. engine: vLLM, where it
    answers.
    """
    if not rows:
        return None

    def measure() -> Graded:
        if engine is not None:
            answers = engine.answer(rows, max_new_tokens=online.max_new_tokens)
        else:
            answers = _answers(policy, rows, online)
        graded = [value for value in collectives.once(lambda: reward(answers, rows)) if value is not None]
        if len(graded) < len(rows):
            print(f"  {len(rows) - len(graded)} of {len(rows)} answers to validation prompts could not be graded")
        return Graded(fmean(graded) if graded else math.nan, len(rows) - len(graded))

    return measure


def _answers(policy: OpenModel, rows: list[Row], online: Online) -> list[str]:
    """The policy's greedy answers, as a verifier reads them, by transformers."""
    answers = []
    for begin in range(0, len(rows), online.batch_size):
        batch = rows[begin : begin + online.batch_size]
        with device.autocast(policy.profile):
            answers += generation.answer(
                policy.model, policy.tokenizer, batch, max_new_tokens=online.max_new_tokens, special_tokens=False
            )
    return answers


def seeds(seed: int, step: int, numbers: Iterable[int]) -> list[int]:
    """A seed for each completion of a step, by its number in the step. step: 0 for what is drawn before the first."""
    return [random.Random(f"{seed} {step} {number}").getrandbits(63) for number in numbers]


def hold_to_start(trainer: Any, online: Online) -> None:
    """Give a policy of full weights a frozen copy of its start as reference. TRL itself copies an adapter."""
    if online.weights != "full" or online.beta == 0:
        return
    frozen = copy.deepcopy(trainer.model).eval().requires_grad_(False)
    trainer.ref_model, trainer.beta = _with_fused_head(frozen, online.temperature), online.beta


def _with_fused_head(model: PreTrainedModel, temperature: float) -> PreTrainedModel:
    del model.forward  # copied from the policy, it would compute with the policy's weights
    add_fused_lm_head(model, temperature=temperature)
    return model


class Rollouts:
    """Mixin for TRL's online trainers: prompts are rendered by `models.chat`, and computed once for each group."""

    accelerator: Any
    args: Any
    model: Any
    processing_class: Any
    state: Any
    engine: EnginePolicy | None = None
    """The vLLM that writes the completions; None where transformers does."""

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[Tokens], None, dict[str, Any]]:
        return [chat.encode_prompt(self.processing_class, *json.loads(prompt)) for prompt in prompts], None, {}

    def _answer(self, prompts: list[Tokens]) -> tuple[list[Tokens], list[list[float]] | None]:
        """One completion a prompt, and the log-probability of each of its tokens where another engine wrote it."""
        if self.engine is not None:
            drawn = self.engine.sample(
                prompts,
                draw=self.state.global_step + 1,
                max_new_tokens=self.args.max_completion_length,
                temperature=self.args.temperature,
            )
            return [answer.tokens for answer in drawn], [answer.log_probs for answer in drawn]
        size, completions = self.args.per_device_train_batch_size, list[Tokens]()
        first = self.accelerator.process_index * len(prompts)
        drawn_by = seeds(self.args.seed, self.state.global_step + 1, range(first, first + len(prompts)))
        for begin in range(0, len(prompts), size):
            with self.accelerator.autocast():
                completions += generation.draw(
                    self.model,
                    self.processing_class,
                    prompts[begin : begin + size],
                    drawn_by[begin : begin + size],
                    max_new_tokens=self.args.max_completion_length,
                    temperature=self.args.temperature,
                )
        return completions, None

    def _get_per_token_logps_and_entropies(
        self, model: Any, ids: Any, mask: Any, completion: int, *args: Any, **options: Any
    ) -> Any:
        """completion: tokens of a row that are the completion."""
        shared = SharedPrompts(model, completion)
        trainer: Any = super()
        with self.accelerator.autocast():
            return trainer._get_per_token_logps_and_entropies(shared, ids, mask, completion, *args, **options)
