"""Chat templates in the manner of known families, in the special tokens of the tests' tokenizer."""

END, TEXT_END = "<|im_end|>", "<|endoftext|>"
_HEADER = "<|im_start|>{{ m.role }}\n"
_ANSWERS = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_EACH = "{% for m in messages %}"

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    _EACH
    + "<|im_start|>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    + "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
"""The end of turn is not the eos token, <|endoftext|>, which it never writes."""
PHI = (
    _EACH
    + _HEADER
    + "{{ m.content }}<|im_end|>\n{% endfor %}"
    + "{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}{{ eos_token }}{% endif %}"
)
"""A conversation ends with the eos token, <|endoftext|>, after the end of its last turn."""
GPT_OSS = (
    _EACH
    + _HEADER
    + "{{ m.content }}{{ '<|endoftext|>' if loop.last and m.role == 'assistant' else '<|im_end|>' }}{% endfor %}"
    + _ANSWERS
)
"""The last turn ends with the eos token, <|endoftext|>, and the same turn with another one in what follows."""
QWEN = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}"
    + _EACH
    + "{% set text = m.content.split('</think>')[-1].lstrip('\n') %}"
    + "{% set thoughts = m.content.split('</think>')[0].split('<think>')[-1].strip('\n') if '</think>' in m.content "
    + "else '' %}"
    + _HEADER
    + "{% if m.role == 'assistant' and loop.index0 > ns.last %}<think>\n{{ thoughts }}\n</think>\n\n{% endif %}"
    + "{{ text }}<|im_end|>\n{% endfor %}"
    + _ANSWERS
    + "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
    + "<think>\n\n</think>\n\n{% endif %}"
)
"""Answers reason, or state that they do not, but only after the last question."""
DEEPSEEK_R1 = (
    _EACH
    + "{{ '<|im_start|>' + m.role + '\n' }}{{ m.content.split('</think>')[-1] }}<|im_end|>{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
"""A prompt opens the reasoning, which is left out of every answer."""
NEMOTRON = (
    "{%- set enable_thinking = enable_thinking if enable_thinking is defined else True %}"
    + _EACH
    + _HEADER
    + "{% if m.role == 'assistant' and '</think>' not in m.content %}<think></think>{% endif %}"
    + "{{ '<think></think>' + m.content.split('</think>')[1] if '</think>' in m.content and not loop.last "
    + "else m.content }}<|im_end|>\n{% endfor %}"
    + _ANSWERS
    + "{% if add_generation_prompt %}{{ '<think>\n' if enable_thinking else '<think></think>' }}{% endif %}"
)
"""A prompt opens the reasoning, or states that there is none, and an answer's block is spaced in another way."""

AGENT = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}"
    "<|im_end|>\n{% endif %}"
    + _EACH
    + _HEADER
    + "{% if m.role == 'assistant' and loop.index0 > ns.last %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n"
    + "{% endif %}{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n"
    + """{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}"""
    + "\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    + _ANSWERS
)
"""Writes tools, calls and results, and reasoning of its own field after the last question, as Qwen3's does."""
TEXT_ARGUMENTS = (
    _EACH
    + _HEADER
    + "{% for c in m.tool_calls or [] %}{{ c.function.name + c.function.arguments }}{% endfor %}{{ m.content }}"
    + "<|im_end|>\n{% endfor %}"
    + _ANSWERS
)
"""Puts the arguments of a call together with text, as DeepSeek's does, and so fails on an object."""
DATED = "{{ strftime_now('%d %B %Y') }}\n" + CHATML
"""Asks for today's date, as Llama 3.2's does."""
