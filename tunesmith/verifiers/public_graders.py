r"""The verdicts of graders that others publish figures by, to stand beside those of `number` and `math`.

`gsm8k_strict` and `gsm8k_flexible` are the two filters of lm-eval's task gsm8k (EleutherAI/lm-evaluation-harness,
version 3.0 of the task) with its exact match: the first number behind a ``####``, or the text's last run of digits.
`math_verify` is math-verify as it comes: its `parse` on either side, and its `verify`. Nothing bounds its time, so it
runs in a `worker`.
"""

import re
from contextlib import suppress

from tunesmith.verifiers.worker import pool

STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
INVALID = "[invalid]"
"""The answer of a text in which a filter finds none, as lm-eval has it."""
IGNORED = (re.compile(r","), re.compile(r"\$"), re.compile(r"(?s).*#### "), re.compile(r"\.$"))
"""What its exact match leaves out on both sides, in this order."""
POOL = pool.Pool(__name__, "math_verify")


def gsm8k_strict(completion: str, reference: str) -> bool:
    """lm-eval's filter strict-match."""
    found = STRICT.search(completion)
    return _exact(found[1].strip() if found else INVALID, reference)


def gsm8k_flexible(completion: str, reference: str) -> bool:
    """lm-eval's filter flexible-extract."""
    found = FLEXIBLE.findall(completion)
    return _exact(next(part for part in found[-1] if part).strip() if found else INVALID, reference)


def _exact(answer: str, reference: str) -> bool:
    for pattern in IGNORED:
        answer, reference = pattern.sub("", answer), pattern.sub("", reference)
    return answer.lower() == reference.lower()


def math_verify(completion: str, reference: str) -> bool:
    """math-verify's own verdict; False where it takes too long, as its own time limit has it."""
    with suppress(OSError):  # no worker starts
        reply = POOL.ask({"completion": completion, "reference": reference})
        return reply is not None and bool(reply["right"])
    return False


def prepare(task: str) -> None:
    """In a worker: import what `math_verify` needs."""
    reply({"completion": "$1$", "reference": "1"})


def reply(request: dict[str, object]) -> dict[str, object]:
    """In a worker: the verdict on a request of `math_verify`."""
    from math_verify import parse, verify

    gold, answer = (parse(str(request[name]), parsing_timeout=None) for name in ("reference", "completion"))
    return {"right": verify(gold, answer, timeout_seconds=None)}
