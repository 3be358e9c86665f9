import pytest
from transformers import PreTrainedTokenizerFast

from tunesmith.core.errors import BaseModelError, ChatError
from tunesmith.core.ready_rows import Message
from tunesmith.models import chat
from tunesmith.models.base.base_model import separate_pad_from_end_of_turn
from tunesmith.models.settings import Turns

USER, ANSWER = [{"role": "user", "content": "What is 1 + 1?"}], [{"role": "assistant", "content": "2"}]
TALK = [{"role": "system", "content": "Be kind."}, *USER, *ANSWER, {"role": "user", "content": "And 2 + 2?"}]


@pytest.mark.parametrize("prompt", [USER, TALK])
def test_the_loss_covers_only_the_answer_and_its_end_of_turn(
    tokenizer: PreTrainedTokenizerFast, prompt: list[Message]
) -> None:
    example = chat.encode_example(tokenizer, prompt, ANSWER)
    trained = [token for token, counts in zip(example.input_ids, example.completion_mask, strict=True) if counts]
    assert tokenizer.decode(trained) == "2<|im_end|>"


LONG_TALK = [*TALK, {"role": "assistant", "content": "4!"}, {"role": "user", "content": "2 + 3?"}]
FETCHED = [*ANSWER, {"role": "tool", "content": "sunny"}, {"role": "assistant", "content": "Sun."}]
"""A completion of two turns with a tool result between them."""


@pytest.mark.parametrize(
    ("prompt", "completion", "turns", "trained"),
    [
        (LONG_TALK, ANSWER, "completion", "2<|im_end|>"),
        (LONG_TALK, ANSWER, "all", "2<|im_end|>4!<|im_end|>2<|im_end|>"),
        (USER, ANSWER, "all", "2<|im_end|>"),
        (USER, FETCHED, "completion", "2<|im_end|>Sun.<|im_end|>"),
    ],
)
def test_only_the_assistants_turns_named_in_params_are_trained(
    tokenizer: PreTrainedTokenizerFast,
    prompt: list[Message],
    completion: list[Message],
    turns: Turns,
    trained: str,
) -> None:
    [example] = chat.encode_examples(tokenizer, prompt, completion, turns=turns)
    counted = [token for token, counts in zip(example.input_ids, example.completion_mask, strict=True) if counts]
    assert tokenizer.decode(counted) == trained
    conversation = tokenizer.apply_chat_template([*prompt, *completion], tokenize=False)
    assert tokenizer.decode(example.input_ids) == conversation.removesuffix("\n")


def test_an_example_splits_into_its_prompt_and_the_last_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    [example] = chat.encode_examples(tokenizer, LONG_TALK, ANSWER, turns="all")
    prompt, answer = example.split()
    assert tokenizer.decode(answer) == "2<|im_end|>"
    assert tokenizer.decode(prompt) == chat.render_prompt(tokenizer, LONG_TALK)


def test_a_prompt_has_the_same_tokens_in_training_and_inference(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = chat.encode_prompt(tokenizer, TALK)
    assert chat.encode_example(tokenizer, TALK, ANSWER).input_ids[: len(prompt)] == prompt


def test_the_last_token_is_the_end_of_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    assert chat.encode_example(tokenizer, USER, ANSWER).input_ids[-1] == tokenizer.eos_token_id


def test_a_template_that_refuses_a_role_says_which_roles_it_met(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = "{{ raise_exception('only users here') }}"
    with pytest.raises(ChatError, match="a conversation of user: only users here"):
        chat.render_prompt(tokenizer, USER)


def test_padding_gets_a_token_of_its_own(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.pad_token = tokenizer.eos_token
    size = len(tokenizer)
    separate_pad_from_end_of_turn(tokenizer)
    assert tokenizer.pad_token == "<|endoftext|>"
    assert len(tokenizer) == size


def test_padding_is_never_a_token_of_the_template(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.pad_token = None
    tokenizer.chat_template = str(tokenizer.chat_template) + "<|endoftext|>"
    with pytest.raises(BaseModelError, match="no special token"):
        separate_pad_from_end_of_turn(tokenizer)
