"""A tiny random chat model, a tokenizer for it, and a count of the tokens that go through a model."""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.chat_templates import CHATML

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with ChatML, whose pad token is its end of turn, as GGUF conversions have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["user assistant system What is 12 + 34? 46"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
        chat_template=CHATML,
    )


def make_model(vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


class TokensRead:
    """Counts the tokens that go through a model, padding included: an entry for every model it is put on."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def __call__(self, policy: Any) -> None:
        self.counts.append(0)
        layer = next(module for name, module in policy.model.named_modules() if name.endswith("layers.0"))
        layer.register_forward_hook(self._count)

    def _count(self, layer: Any, given: tuple[torch.Tensor, ...], output: Any) -> None:
        self.counts[-1] += given[0].shape[0] * given[0].shape[1]
