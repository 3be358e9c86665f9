"""A base's chat template as its model folders carry it: with the variables of params.yaml, and an eos that ends turns.

Whatever reads a model folder (TRL, lm-eval, vLLM, transformers, a user's own code) then renders the same tokens and
stops at the same one, without being told (docs/decisions/028).
"""

import copy
import hashlib
import json
import re

from transformers import PreTrainedTokenizerBase

from tunesmith.core.errors import ChatError
from tunesmith.core.params import TemplateKwargs, meant
from tunesmith.core.ready_rows import Message
from tunesmith.models import chat

TALK: list[Message] = [
    {"role": "user", "content": "Question one."},
    {"role": "assistant", "content": "Answer one."},
    {"role": "user", "content": "Question two."},
    {"role": "assistant", "content": "Answer two."},
]


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
