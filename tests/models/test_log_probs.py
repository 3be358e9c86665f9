from pathlib import Path

import pytest
import torch
from datasets import Dataset
from profiles import EXACT
from tiny_model import TokensRead
from trl import GRPOConfig, GRPOTrainer

from tunesmith.models import loading
from tunesmith.models.attention.shared_prompts import single_head_product
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import likelihoods, padded
from tunesmith.models.settings import Lora
from tunesmith.training.objectives.grpo import Trainer

LORA = Lora(rank=4, alpha=8, dropout=0.0)
EXAMPLES = [([7, 8, 9, 40], [11, 12, 2]), ([7, 8, 9, 40], [13, 2]), ([5], [14, 15, 2]), ([90, 91], [2])]


@pytest.fixture
def policy(tiny_base: Path) -> OpenModel:
    return loading.open_policy(tiny_base, tiny_base, EXACT, "lora", LORA)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_a_likelihood_in_a_batch_is_that_of_the_conversation_alone(policy: OpenModel, batch_size: int) -> None:
    results = likelihoods(policy, EXAMPLES, batch_size=batch_size)
    for (prompt, completion), likelihood in zip(EXAMPLES, results, strict=True):
        with torch.no_grad():
            logits = policy.model(input_ids=torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        positions = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
        expected = sum(float(logits[position, token]) for position, token in zip(positions, completion, strict=True))
        assert likelihood.log_prob == pytest.approx(expected, abs=1e-4)
        assert likelihood.ends == (int(logits[-2].argmax()) == completion[-1])


def test_a_single_product_with_the_output_head_changes_no_result(policy: OpenModel) -> None:
    head = policy.model.get_output_embeddings().weight
    ids = torch.arange(5, 17).reshape(2, 6)
    with torch.inference_mode():
        plain = policy.model(input_ids=ids, logits_to_keep=3).logits
        with single_head_product(policy.model):
            together = policy.model(input_ids=ids, logits_to_keep=3).logits
    torch.testing.assert_close(together, plain)
    assert not head.requires_grad


def make_trainer(kind: type[GRPOTrainer], policy: OpenModel, scratch: Path) -> GRPOTrainer:
    config = GRPOConfig(
        str(scratch), use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", num_generations=2,
        per_device_train_batch_size=2, temperature=0.7,
    )  # fmt: skip
    rows = Dataset.from_dict({"prompt": [[{"role": "user", "content": "?"}]]})
    return kind(policy.model, reward_funcs=[len], args=config, train_dataset=rows, processing_class=policy.tokenizer)


def test_sharing_a_prompt_changes_neither_probabilities_nor_gradients(
    tiny_base: Path, tmp_path: Path, tokens_read: TokensRead
) -> None:
    prompts, prompt_mask = padded([prompt for prompt, _ in EXAMPLES], 0, left=True)
    answers, answer_mask = padded([completion for _, completion in EXAMPLES], 0, left=False)
    ids, mask = torch.cat([prompts, answers], 1), torch.cat([prompt_mask, answer_mask], 1)
    results = []
    for kind in (GRPOTrainer, Trainer):
        torch.manual_seed(0)
        policy = loading.open_policy(tiny_base, tiny_base, EXACT, "lora", LORA)
        online_trainer = make_trainer(kind, policy, tmp_path)
        tokens_read(policy)
        torch.manual_seed(1)
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:  # zero at first, which would hide the gradient of lora_A
                torch.nn.init.normal_(parameter, std=0.1)
        values, entropies, _ = online_trainer._get_per_token_logps_and_entropies(
            policy.model, ids, mask, answers.shape[1], compute_entropy=True
        )
        (values * answer_mask).sum().backward()
        gradients = [p.grad.clone() for p in policy.model.parameters() if p.requires_grad]
        results.append((values * answer_mask, entropies * answer_mask, *gradients))
    # 4 conversations of 7; or 3 unique prompts of 3, without their last tokens, and 4 times these and the completions
    assert tokens_read.counts == [4 * 7, 3 * 3 + 4 * 4]
    for plain, shared in zip(*results, strict=True):
        torch.testing.assert_close(shared, plain, rtol=1e-4, atol=1e-5)
