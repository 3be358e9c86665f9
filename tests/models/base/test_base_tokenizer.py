import pickle
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tunesmith.core.errors import IntegrityError
from tunesmith.core.ready_rows import Conversation
from tunesmith.models import chat, chat_template
from tunesmith.models.base import base_tokenizer


def conversation(number: int) -> Conversation:
    prompt = [{"role": "user", "content": f"What is {number}? " * (number % 7 + 1)}]
    return Conversation(prompt, [{"role": "assistant", "content": "漢字 é " * (number % 5) + str(number)}])


def test_tokens_are_counted_as_training_makes_them(tokenizer: PreTrainedTokenizerFast) -> None:
    conversations = [conversation(number) for number in range(40)]
    prompts, completions = chat.count_tokens(tokenizer, conversations)
    for number, (prompt, completion, _) in enumerate(conversations):
        example = chat.encode_example(tokenizer, prompt, completion)
        assert prompts[number] == example.completion_mask.count(0)
        assert completions[number] == example.completion_mask.count(1)


def test_a_prompt_without_an_answer_is_counted_as_at_inference(tokenizer: PreTrainedTokenizerFast) -> None:
    unanswered, answered = Conversation(conversation(1).prompt, []), conversation(2)
    prompts, completions = chat.count_tokens(tokenizer, [unanswered, answered, unanswered])
    assert prompts[0] == prompts[2] == len(chat.encode_prompt(tokenizer, unanswered[0]))
    assert completions[0] == completions[2] == 0
    assert completions[1] > 0


def test_a_truncating_tokenizer_counts_all_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    before = chat.count_tokens(tokenizer, [conversation(6)])
    tokenizer.backend_tokenizer.enable_truncation(3)
    assert chat.count_tokens(tokenizer, [conversation(6)]) == before


def test_a_counter_works_in_another_process(tokenizer: PreTrainedTokenizerFast) -> None:
    counter = base_tokenizer.Counter(tokenizer)
    assert pickle.loads(pickle.dumps(counter))([conversation(3)]) == counter([conversation(3)])


def test_context_and_control_tokens_are_read_from_the_base(tiny_base: Path) -> None:
    tokenizer = base_tokenizer.open_tokenizer(tiny_base)
    assert base_tokenizer.lengths(tokenizer, tiny_base).context == 512
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= set(chat_template.special_tokens(tokenizer))


def test_a_changed_tokenizer_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    for file in tiny_base.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(IntegrityError, match=r"tokenizer\.json \(changed\)"):
        base_tokenizer.open_tokenizer(tmp_path)


def test_a_tokenizer_opens_without_the_weights(tiny_base: Path, tmp_path: Path) -> None:
    for file in tiny_base.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    base_tokenizer.open_tokenizer(tmp_path)
