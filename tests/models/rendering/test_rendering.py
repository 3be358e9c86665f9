"""Turns with tools and reasoning become the tokens that a template writes, and the mask is on what is trained."""

from datetime import date
from typing import Any

import pytest
from chat_templates import AGENT, CHATML, DATED, DEEPSEEK_R1, NEMOTRON, TEXT_ARGUMENTS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tunesmith.core.errors import ChatError
from tunesmith.core.ready_rows import Conversation, Message, Tool
from tunesmith.models import chat, chat_template
from tunesmith.models.rendering import boundaries, style

TOOLS: list[Tool] = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
CALL: Any = {"type": "function", "id": "1", "function": {"name": "add", "arguments": {"a": 2, "b": "é"}}}
TALK: list[Message] = [
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": "", "reasoning": "I add.", "tool_calls": [CALL], "train": True},
    {"role": "tool", "content": "4", "tool_call_id": "1"},
    {"role": "assistant", "content": "It is 4.", "reasoning": "Done."},
]


def trained(tokenizer: PreTrainedTokenizerFast, examples: list[chat.Example]) -> list[str]:
    """The text of each run of trained tokens."""
    runs: list[list[int]] = []
    for example in examples:
        for place, counts in enumerate(example.completion_mask):
            if counts and (place == 0 or not example.completion_mask[place - 1]):
                runs.append([])
            if counts:
                runs[-1].append(example.input_ids[place])
    return [tokenizer.decode(run) for run in runs]


def test_calls_and_reasoning_are_trained_as_the_template_writes_them(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = AGENT
    examples = chat.encode_examples(tokenizer, TALK[:-1], TALK[-1:], TOOLS)
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": "é"}}\n</tool_call>'
    assert trained(tokenizer, examples) == [
        f"<think>\nI add.\n</think>\n\n{call}<|im_end|>",
        "<think>\nDone.\n</think>\n\nIt is 4.<|im_end|>",
    ]
    assert '"add"' in tokenizer.decode(examples[0].input_ids).partition("2 + 2?")[0], "the tools come first"
    for example, (prompt, _) in zip(examples, [(TALK[:-1], None)], strict=False):
        assert tokenizer.decode(example.input_ids).startswith(chat.render_prompt(tokenizer, prompt[:1], TOOLS))
    [prompts], [completions] = chat.count_tokens(tokenizer, [Conversation(TALK[:-1], TALK[-1:], TOOLS)])
    prompt, answer = chat.encode_example(tokenizer, TALK[:-1], TALK[-1:], TOOLS).split()
    assert (prompts, completions) == (len(prompt), len(answer))


@pytest.mark.parametrize("template", [AGENT, DEEPSEEK_R1, NEMOTRON, CHATML])
def test_reasoning_is_trained_before_its_answer_by_any_template(
    tokenizer: PreTrainedTokenizerFast, template: str
) -> None:
    tokenizer.chat_template = template
    reasoned: list[Message] = [TALK[0], {"role": "assistant", "content": "4", "reasoning": "I add."}]
    embedded: list[Message] = [TALK[0], {"role": "assistant", "content": "<think>\nI add.\n</think>\n\n4"}]
    [run] = trained(tokenizer, chat.encode_examples(tokenizer, reasoned[:1], reasoned[1:]))
    assert run.index("I add.") < run.index("</think>") < run.index("4<|im_end|>")
    if template is not AGENT:  # which reads reasoning from its own field alone
        assert trained(tokenizer, chat.encode_examples(tokenizer, embedded[:1], embedded[1:])) == [run]


def test_a_turn_that_is_marked_is_trained_or_not_whatever_the_training_says(tokenizer: PreTrainedTokenizerFast) -> None:
    talk: list[Message] = [
        message
        for number, mark in enumerate([{"train": False}, {"train": True}, {}, {}])
        for message in (
            {"role": "user", "content": f"q{number}"},
            {"role": "assistant", "content": f"a{number}", **mark},
        )
    ]  # type: ignore[misc]
    for turns, kept in (("completion", "a1 a3"), ("all", "a1 a2 a3")):
        examples = chat.encode_examples(tokenizer, talk[:-1], talk[-1:], turns=turns)  # type: ignore[arg-type]
        assert trained(tokenizer, examples) == [f"{text}<|im_end|>" for text in kept.split()]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, style.Style(None, text_arguments=False, calls=False, tools=False)),
        (AGENT, style.Style("reasoning_content", text_arguments=False, calls=True, tools=True)),
        (TEXT_ARGUMENTS, style.Style(None, text_arguments=True, calls=True, tools=False)),
        (AGENT.replace("reasoning_content", "reasoning"), style.Style("reasoning", False, True, True)),
    ],
)
def test_what_a_template_wants_is_found_by_rendering(
    tokenizer: PreTrainedTokenizerFast, template: str, expected: style.Style
) -> None:
    tokenizer.chat_template = template
    assert style.of(tokenizer) == expected


def test_arguments_are_text_where_a_template_puts_them_together_with_text(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = TEXT_ARGUMENTS
    assert 'add{"a": 2, "b": "é"}' in chat.render(tokenizer, TALK[:3])


@pytest.mark.parametrize(
    "fault", ["{{ 1 / 0 }}", "{{ 'a' + 1 }}", "{{ messages[9].role }}", "{{ raise_exception('no') }}", "{% if %}"]
)
def test_any_fault_of_a_template_is_an_error_that_names_it(tokenizer: PreTrainedTokenizerFast, fault: str) -> None:
    tokenizer.chat_template = fault + CHATML
    with pytest.raises(ChatError, match="the chat template refuses a conversation of user"):
        chat_template.stop_at_end_of_turn(tokenizer)


def test_a_template_that_asks_for_the_date_is_refused_or_pinned(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = DATED
    with pytest.raises(ChatError, match="today's date") as error:
        chat_template.pin_date(tokenizer, None)
    assert "base_model.chat_template_date" in error.value.fix
    before = chat_template.digest(tokenizer)
    chat_template.pin_date(tokenizer, date(2026, 2, 3))
    assert chat.render_prompt(tokenizer, TALK[:1]).startswith("03 February 2026\n")
    assert chat_template.digest(tokenizer) != before
    with pytest.raises(ChatError, match="would change nothing"):
        chat_template.pin_date(tokenizer, date(2026, 2, 3))
    tokenizer.chat_template = DATED.replace("'%d %B %Y'", "'%d' + ' %B'")
    with pytest.raises(ChatError, match="cannot be written into"):
        chat_template.pin_date(tokenizer, date(2026, 2, 3))


def test_a_variable_for_the_date_makes_it_no_matter_of_the_day(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = "{{ date_string if date_string is defined else strftime_now('%Y') }}\n" + CHATML
    made = chat_template.with_kwargs(tokenizer, {"date_string": "26 Jul 2024"})
    chat_template.pin_date(made, None)
    assert chat.render_prompt(made, TALK[:1]).startswith("26 Jul 2024\n")


def sentencepiece() -> PreTrainedTokenizerFast:
    """A tokenizer that puts a space before every text, as SentencePiece's do, with Mistral's way of ending turns."""
    words = ["<unk>", "</s>", "[I]", "[/I]", "▁", "▁Rob", "Rob", "▁in", "in", "?", "W", "h", "o", "▁W", "\n"]
    tokenizer = Tokenizer(models.Unigram([(word, -float(len(words) - len(word))) for word in words], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", additional_special_tokens=["[I]", "[/I]"],
        chat_template="{% for m in messages %}{% if m.role == 'user' %}[I]{{ m.content }}?{% else %}{{ m.content }}</s>"
        "{% endif %}{% endfor %}",
    )  # fmt: skip


def test_an_answer_has_the_tokens_that_it_has_after_its_prompt() -> None:
    tokenizer = sentencepiece()
    assert not boundaries.reads_alone(tokenizer)
    prompt: list[Message] = [{"role": "user", "content": "Who"}]
    completion: list[Message] = [{"role": "assistant", "content": "Robin"}]
    example = chat.encode_example(tokenizer, prompt, completion)
    whole = boundaries.encode(tokenizer, chat.render(tokenizer, [*prompt, *completion]))
    assert example.input_ids == whole
    assert example.split()[0] == chat.encode_prompt(tokenizer, prompt)
    assert "▁Rob" not in tokenizer.convert_ids_to_tokens(example.split()[1])
    [[prompts], [completions]] = chat.count_tokens(tokenizer, [Conversation(prompt, completion)])
    assert (prompts, completions) == tuple(map(len, example.split()))
    again = chat.encode_examples(tokenizer, [*prompt, *completion, *prompt], completion, turns="all")
    assert [sum(one.completion_mask) for one in again] == [2 * completions]
    assert again[0].input_ids == boundaries.encode(tokenizer, chat.render(tokenizer, [*prompt, *completion] * 2))


def test_a_byte_level_tokenizer_reads_a_text_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    assert boundaries.reads_alone(tokenizer)


def test_findings_say_what_a_template_leaves_out(tokenizer: PreTrainedTokenizerFast) -> None:
    assert "does not write which tools there are" in chat_template.findings(tokenizer)[0]
    tokenizer.chat_template = AGENT
    writes, opening = chat_template.findings(tokenizer)
    assert writes == "writes which tools there are, and writes their calls and results"
    assert opening == r"writes '<think>\n\n</think>\n\n' before an answer without reasoning"
    answered = "{% if messages[-1].role != 'user' and messages[0].role == 'system' %}"
    tokenizer.chat_template = answered + "{% set messages = messages[1:] %}{% endif %}" + CHATML
    assert "cannot train rows with a system message" in chat_template.findings(tokenizer)[-1]
