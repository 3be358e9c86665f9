"""A base's chat template as its model folders carry it: with the variables of params.yaml, and an eos that ends turns.

Whatever reads a model folder (TRL, lm-eval, vLLM, transformers, a user's own code) then renders the same tokens and
stops at the same one, without being told (docs/decisions/028).
"""

import copy
import hashlib
import json
import re
from datetime import date

from transformers import PreTrainedTokenizerBase

from tunesmith.core.errors import ChatError
from tunesmith.core.params import TemplateKwargs, meant
from tunesmith.core.ready_rows import Conversation, Message, content_text
from tunesmith.models import chat
from tunesmith.models.rendering import boundaries, style

NOW = re.compile(r"""strftime_now\(\s*(["'])([^"']*)\1\s*\)""")
"""The question of a template what day it is, in the format of its second group."""
TALK: list[Message] = [
    {"role": "user", "content": "Question one."},
    {"role": "assistant", "content": "Answer one."},
    {"role": "user", "content": "Question two."},
    {"role": "assistant", "content": "Answer two."},
]
SYSTEM: Message = {"role": "system", "content": "Be brief."}
SWITCHES = ("enable_thinking", "thinking", "add_default_system_prompt", "tools_in_user_message")
"""Variables of templates that switch parts of them on."""


def with_kwargs(tokenizer: PreTrainedTokenizerBase, kwargs: TemplateKwargs) -> PreTrainedTokenizerBase:
    """A copy of ``tokenizer`` whose chat template has these values for variables that a caller does not pass.

    Raises ChatError for a variable that the template does not have.
    """
    words = sorted(set(re.findall(r"\w+", str(tokenizer.chat_template))))
    for name in kwargs:
        if name not in words:
            raise ChatError(
                f"the chat template has no variable {name!r}{meant(name, words)}: a value for it would change nothing",
                fix="correct or remove it in chat_template_kwargs (params.yaml)",
            )
    changed = copy.copy(tokenizer)
    for name, value in sorted(kwargs.items()):
        literal = json.dumps(value, ensure_ascii=False)  # which is Jinja, too
        _put_first(changed, f"{{% if {name} is not defined %}}{{% set {name} = {literal} %}}{{% endif %}}")
    return changed


def pin_date(tokenizer: PreTrainedTokenizerBase, day: date | None) -> None:
    """Write ``day`` into a chat template that asks for today's date, which would render other tokens every day.

    Raises ChatError for such a template where no day is given or it cannot be written in, and for a day without use.
    """
    param = "base_model.chat_template_date"
    if not _asks_for_date(tokenizer):
        if day is not None:
            raise ChatError(
                "the chat template does not ask for today's date: a day for it would change nothing",
                fix=f"remove {param} from params.yaml",
            )
        return
    if day is None:
        raise ChatError(
            "the chat template writes today's date, so that a model would be asked otherwise every day",
            fix=f"pin it in params.yaml, such as {param}: {date.today().isoformat()}",
        )
    template = tokenizer.chat_template
    if isinstance(template, dict):
        tokenizer.chat_template = {name: _with_date(text, day) for name, text in template.items()}
    else:
        tokenizer.chat_template = _with_date(str(template), day)
    if _asks_for_date(tokenizer):
        raise ChatError(
            "the chat template asks for today's date in a way that a day cannot be written into",
            fix="name a template without the date in params.yaml, base_model.chat_template",
        )


def _with_date(template: str, day: date) -> str:
    return NOW.sub(lambda asked: json.dumps(day.strftime(asked[2]), ensure_ascii=False), template)


def _asks_for_date(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template writes the date in a conversation of any kind that rows and requests have."""
    if "strftime_now" not in str(tokenizer.chat_template):
        return False
    days = []
    for day in ("one day", "another day"):
        changed = copy.copy(tokenizer)
        _put_first(changed, f"{{% macro strftime_now(format) %}}{day}{{% endmacro %}}")
        days.append(changed)
    words = set(re.findall(r"\w+", str(tokenizer.chat_template)))
    switches = [{}, *({name: value} for name in SWITCHES if name in words for value in (True, False))]
    for messages in (TALK, TALK[:1], TALK[:3], [SYSTEM, *TALK], [SYSTEM, TALK[0]], style.CALLS):
        for settings in ({}, {"tools": [style.TOOL]}):
            for switch in switches:
                asks = {"add_generation_prompt": messages[-1]["role"] == "user", **settings, **switch}
                first, other = ("".join(style.rendered(changed, messages, **asks)) for changed in days)
                if first != other:
                    return True
    return False


def findings(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What the template and the tokenizer do with rows of some kinds, found by rendering them, in words."""
    wanted = style.of(tokenizer)
    found = [
        f"{'writes' if wanted.tools else 'does not write'} which tools there are, and "
        f"{'writes' if wanted.calls else 'does not write'} their calls and results"
    ]
    if not (wanted.tools and wanted.calls):
        found[0] += ": rows with what it does not write are set aside"
    if wanted.text_arguments:
        found.append("takes the arguments of a call as JSON text, which it gets")
    if opening := unreasoned(tokenizer):
        found.append(f"writes {opening!r} before an answer without reasoning")
    if not boundaries.reads_alone(tokenizer):
        found.append("the tokenizer reads a text otherwise alone: answers get the tokens that they have after prompts")
    if not writes_system(tokenizer):
        found.append("does not write system messages: rows with one are set aside")
    system = [SYSTEM, *TALK]
    try:
        chat.encode_examples(tokenizer, system[:-1], system[-1:], turns="all")
    except ChatError as error:
        found.append(f"cannot train rows with a system message: {error.reason}")
    return found


def writes_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a system message is in the text, or refused; one that is left out in silence would be lost."""
    asked = style.rendered(tokenizer, [SYSTEM, TALK[0]], add_generation_prompt=True)
    return all(content_text(SYSTEM) in text for text in asked)


def unreasoned(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes between a prompt and an answer without reasoning, and is trained with it."""
    [(_, answer)] = chat.render_examples(tokenizer, [Conversation(TALK[:1], TALK[1:2])])
    before = answer.partition("Answer one.")[0]
    return before if before.strip() else ""


def stop_at_end_of_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the token that ends the template's turns the tokenizer's eos token, at which generation stops.

    The template itself goes on writing the former one. Raises ChatError where no special token ends a turn, or an
    answer cannot be trained on.
    """
    end, former = end_of_turn(tokenizer), tokenizer.eos_token
    if end != former:
        if "eos_token" in str(tokenizer.chat_template):
            _put_first(tokenizer, f"{{% set eos_token = {json.dumps(former or '', ensure_ascii=False)} %}}")
        tokenizer.eos_token = end
    chat.encode_example(tokenizer, TALK[:1], TALK[1:2])


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """The special token that ends an assistant's turn, and does so where the conversation goes on, too.

    Where a turn ends with several, it is the eos token, or else the first. Raises ChatError where it ends with none.
    """
    text = chat.render(tokenizer, TALK)
    if "Answer two." not in text:
        raise ChatError(
            "the chat template leaves out the text of a message", fix="name another one: base_model.chat_template"
        )
    special = "|".join(re.escape(token) for token in sorted(special_tokens(tokenizer), key=len, reverse=True))
    _, _, rest = text.partition("Answer one.")
    earlier, _, rest = rest.partition("Question two.")
    last = re.findall(special, rest.partition("Answer two.")[2])
    ends = [token for token in last if token in re.findall(special, earlier)] or last
    if not ends:
        raise ChatError(
            "the chat template does not end an assistant's turn with a special token, so a tuned model would not stop",
            fix="name a template that does in params.yaml, base_model.chat_template",
        )
    return str(tokenizer.eos_token) if tokenizer.eos_token in ends else ends[0]


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Strings that the tokenizer reads as control tokens wherever they stand in a text."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted({*added, *tokenizer.all_special_tokens})


def digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256, in hex, of everything but the vocabulary that decides how messages become tokens."""
    parts = [tokenizer.chat_template, tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _put_first(tokenizer: PreTrainedTokenizerBase, line: str) -> None:
    """Put a line that writes no text before the chat template, or before each where a tokenizer has several."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        tokenizer.chat_template = {name: f"{line}\n{text}" for name, text in template.items()}
    else:
        tokenizer.chat_template = f"{line}\n{template}"
