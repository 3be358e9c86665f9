"""Does the completion match the row's regular expression?

The row's ``pattern`` must match all of the completion but the white space around it, or, where the row has
``anywhere: true``, some part of it. It is in the syntax of RE2, which takes linear time whatever the text; it has no
lookaround and no backreference. ``.`` matches no line feed, unless the pattern begins with ``(?s)``.
"""

from functools import lru_cache
from typing import Any

import re2

from tunesmith.verifiers.verdict import Columns, Verdict


def verify(completion: str, row: Columns) -> Verdict:
    """Match ``completion`` with the row's pattern."""
    pattern, anywhere = row["pattern"], row.get("anywhere", False)
    if not isinstance(pattern, str) or not isinstance(anywhere, bool):
        return Verdict(0.0, None, "the row's pattern is no text, or its anywhere is not true or false", "not_gradable")
    try:
        compiled = compile_pattern(pattern)
    except re2.error as error:
        return Verdict(0.0, None, f"the row's pattern is none of RE2's: {told(error)}", "not_gradable")
    text = encoded(completion.strip())
    if not text:
        return Verdict(0.0, None, "the completion is blank", "no_answer")
    match = compiled.search(text) if anywhere else compiled.fullmatch(text)
    if match is None:
        return Verdict(0.0, completion.strip(), "the pattern does not match")
    return Verdict(1.0, match.group().decode(errors="replace"), "the pattern matches")


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> Any:
    """``pattern`` for RE2, over bytes in UTF-8: half a surrogate pair in a completion is no error then.

    Raises re2.error.
    """
    options = re2.Options()
    options.log_errors = False
    return re2.compile(encoded(pattern), options)


def encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def told(error: Exception) -> str:
    """What an error says; RE2's says it in bytes."""
    said = error.args[0] if isinstance(error, re2.error) and error.args else error
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
