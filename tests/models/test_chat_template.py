"""A model folder's chat template carries the variables of params.yaml and ends turns, whatever the family."""

import jinja2.meta
import pytest
from chat_templates import CHATML, DEEPSEEK_R1, END, GEMMA, GPT_OSS, NEMOTRON, PHI, QWEN, TEXT_END
from transformers import PreTrainedTokenizerFast

from tunesmith.core.errors import ChatError
from tunesmith.core.params import TemplateKwargs
from tunesmith.core.ready_rows import Conversation, Message
from tunesmith.models import chat, chat_template

PLAIN: list[Message] = [
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": "4"},
]
REASONED: list[Message] = [
    message | {"content": f"<think>\nI add.\n</think>\n\n{message['content']}"}  # type: ignore[misc]
    if message["role"] == "assistant"
    else message
    for message in PLAIN
]
FAMILIES = {"ChatML": CHATML, "Gemma": GEMMA, "Phi": PHI, "gpt-oss": GPT_OSS}
REASONING = {"Qwen": QWEN, "DeepSeek-R1": DEEPSEEK_R1, "Nemotron": NEMOTRON}


def base(tokenizer: PreTrainedTokenizerFast, template: str, **kwargs: bool) -> PreTrainedTokenizerFast:
    """The tokenizer as `fetch_base` saves it; its eos token was the end of a text, as where these families have it."""
    tokenizer.chat_template, tokenizer.eos_token = template, TEXT_END
    made = chat_template.with_kwargs(tokenizer, kwargs)
    chat_template.stop_at_end_of_turn(made)
    return made


@pytest.mark.parametrize(
    ("template", "talk", "kwargs"),
    [
        *((template, PLAIN, {}) for template in (FAMILIES | REASONING).values()),
        *((template, REASONED, {}) for template in REASONING.values()),
        *((REASONING[family], PLAIN, {"enable_thinking": False}) for family in ("Qwen", "Nemotron")),
    ],
)
def test_each_turn_is_trained_once_to_its_end_after_exactly_the_prompt_that_it_is_generated_after(
    tokenizer: PreTrainedTokenizerFast, template: str, talk: list[Message], kwargs: dict[str, bool]
) -> None:
    made = base(tokenizer, template, **kwargs)
    examples = chat.encode_examples(made, talk[:-1], talk[-1:], turns="all")
    trained = {}
    for example in examples:
        for position, counts in enumerate(example.completion_mask):
            if counts and not example.completion_mask[position - 1]:
                end = position + [*example.completion_mask[position:], 0].index(0)
                trained[made.decode(example.input_ids[:position])] = example.input_ids[position:end]
    assert list(trained) == [chat.render_prompt(made, talk[:number]) for number in (1, 3)]
    for answer, run in zip("24", trained.values(), strict=True):
        assert run.count(made.eos_token_id) == 1
        assert run[-1] == made.eos_token_id
        text = made.decode(run).removesuffix(made.eos_token)
        assert text.endswith(answer)
        assert ("I add." in text) == (talk is REASONED), "no reasoning is dropped"
        assert text.count("</think>") == ("think>" in template and not kwargs), "what the prompt opens is closed"
    prompt, answer_ids = chat.encode_example(made, talk[:-1], talk[-1:]).split()
    assert (made.decode(prompt), answer_ids) == list(trained.items())[-1]
    assert [
        sum(counts) for counts in zip(*chat.count_tokens(made, [Conversation(talk[:-1], talk[-1:])]), strict=True)
    ] == [len(chat.encode_prompt(made, talk[:-1])) + len(answer_ids)]


def test_turns_that_later_ones_leave_as_they_are_share_an_example(tokenizer: PreTrainedTokenizerFast) -> None:
    numbers = {
        family: len(chat.encode_examples(base(tokenizer, template), PLAIN[:-1], PLAIN[-1:], turns="all"))
        for family, template in (FAMILIES | REASONING).items()
    }
    assert {family for family, number in numbers.items() if number == 1} == {"ChatML", "Gemma", "Phi"}
    assert set(numbers.values()) == {1, 2}


@pytest.mark.parametrize(
    ("template", "end"),
    [(CHATML, END), (GEMMA, END), (PHI, END), (GPT_OSS, TEXT_END), (QWEN, END), (DEEPSEEK_R1, END), (NEMOTRON, END)],
)
def test_the_eos_token_becomes_the_templates_end_of_turn_and_nothing_is_rendered_differently(
    tokenizer: PreTrainedTokenizerFast, template: str, end: str
) -> None:
    tokenizer.chat_template, tokenizer.eos_token = template, TEXT_END
    before = chat.render(tokenizer, PLAIN), chat.render_prompt(tokenizer, PLAIN[:1])
    chat_template.stop_at_end_of_turn(tokenizer)
    assert tokenizer.eos_token == end
    assert (chat.render(tokenizer, PLAIN), chat.render_prompt(tokenizer, PLAIN[:1])) == before


def test_a_template_that_ends_its_turns_with_the_eos_token_is_left_as_it_is(tokenizer: PreTrainedTokenizerFast) -> None:
    before = chat_template.digest(tokenizer)
    chat_template.stop_at_end_of_turn(chat_template.with_kwargs(tokenizer, {}))
    chat_template.stop_at_end_of_turn(tokenizer)
    assert chat_template.digest(tokenizer) == before


def test_a_template_without_an_end_of_turn_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    with pytest.raises(ChatError, match="would not stop"):
        chat_template.stop_at_end_of_turn(tokenizer)


def test_a_template_that_takes_no_text_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = CHATML.replace("message['content']", "message['content'][0]['text']")
    with pytest.raises(ChatError, match="leaves out the text"):
        chat_template.stop_at_end_of_turn(tokenizer)


def test_a_template_that_changes_the_prompt_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = "{{ messages | length }}" + CHATML
    with pytest.raises(ChatError, match="renders a prompt differently once an answer follows it"):
        chat_template.stop_at_end_of_turn(tokenizer)


def test_reasoning_that_the_prompt_forbids_is_refused_and_not_dropped(tokenizer: PreTrainedTokenizerFast) -> None:
    made = base(tokenizer, QWEN, enable_thinking=False)
    with pytest.raises(ChatError, match=r"'I add\.\\n</think>") as error:
        chat.encode_example(made, REASONED[:1], REASONED[1:2])
    assert "base_model.chat_template_kwargs" in error.value.fix


def test_reasoning_that_a_template_leaves_out_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    made = base(tokenizer, DEEPSEEK_R1.replace("<think>\n", ""))
    assert chat.encode_example(made, PLAIN[:1], PLAIN[1:2])
    with pytest.raises(ChatError, match="leaves the reasoning out"):
        chat.encode_example(made, REASONED[:1], REASONED[1:2])


@pytest.mark.parametrize("start", ["", "\n", "  ", "{%- set unused = 1 %}\n", "  {% set unused = 1 %}\n"])
@pytest.mark.parametrize("kwargs", [{"enable_thinking": False}, {"enable_thinking": True}, {}])
def test_a_template_with_values_renders_as_a_caller_who_passes_them(
    tokenizer: PreTrainedTokenizerFast, start: str, kwargs: TemplateKwargs
) -> None:
    tokenizer.chat_template = start + QWEN
    made = chat_template.with_kwargs(tokenizer, kwargs)
    assert chat.render_prompt(made, PLAIN[:1]) == tokenizer.apply_chat_template(
        PLAIN[:1], tokenize=False, add_generation_prompt=True, **kwargs
    )
    for value in (False, True):  # a caller's own value counts, as servers pass it on
        assert made.apply_chat_template(PLAIN, tokenize=False, enable_thinking=value) == tokenizer.apply_chat_template(
            PLAIN, tokenize=False, enable_thinking=value
        )


def test_vllm_sees_a_variable_that_has_a_value(tokenizer: PreTrainedTokenizerFast) -> None:
    """It drops variables of a request that Jinja does not find undeclared in the template."""
    tokenizer.chat_template = QWEN
    template = chat_template.with_kwargs(tokenizer, {"enable_thinking": False}).chat_template
    assert "enable_thinking" in jinja2.meta.find_undeclared_variables(jinja2.Environment().parse(template))


@pytest.mark.parametrize("value", [True, False, 3, -0.5, "", "low", 'a "b" \\n \n\t{{ c }} %} {# é 漢 😀'])
def test_any_value_reaches_the_template_as_it_is(
    tokenizer: PreTrainedTokenizerFast, value: bool | int | float | str
) -> None:
    tokenizer.chat_template = {"default": "{{ effort | tojson }}{{ effort }}", "tool_use": "tools {{ effort }}"}
    made = chat_template.with_kwargs(tokenizer, {"effort": value})
    for tools in (None, [{"type": "function"}]):
        passed = tokenizer.apply_chat_template(PLAIN, tokenize=False, tools=tools, effort=value)
        assert made.apply_chat_template(PLAIN, tokenize=False, tools=tools) == passed


def test_the_values_of_a_suite_replace_those_of_the_base_in_the_digest_too(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = QWEN
    off = chat_template.with_kwargs(tokenizer, {"enable_thinking": False})
    on = chat_template.with_kwargs(off, {"enable_thinking": True})
    assert chat.render_prompt(on, PLAIN[:1]) == chat.render_prompt(tokenizer, PLAIN[:1])
    assert chat.render_prompt(off, PLAIN[:1]) != chat.render_prompt(tokenizer, PLAIN[:1])
    assert len({chat_template.digest(each) for each in (tokenizer, off, on)}) == 3


def test_a_variable_that_the_template_does_not_have_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = QWEN
    with pytest.raises(ChatError, match=r"no variable 'enable_thinkin'; did you mean 'enable_thinking'\?"):
        chat_template.with_kwargs(tokenizer, {"enable_thinkin": False})


def test_the_digest_changes_with_the_template_and_the_end_of_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    digests = {chat_template.digest(tokenizer)}
    tokenizer.chat_template = str(tokenizer.chat_template) + " "
    digests.add(chat_template.digest(tokenizer))
    tokenizer.eos_token = TEXT_END
    digests.add(chat_template.digest(tokenizer))
    assert len(digests) == 3
