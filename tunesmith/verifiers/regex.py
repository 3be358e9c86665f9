"""Match the completion with the row's regular expression.

The row's ``pattern`` must match all of the completion but the white space around it, or, where the row has
``anywhere: true``, some part of it. Its syntax is that of RE2, which takes linear time on any text and has neither
lookaround nor backreferences. ``.`` does not match a line feed, unless the pattern begins with ``(?s)``.
"""

from functools import lru_cache
from typing import Any

import re2

from tunesmith.verifiers.verdict import Columns, Verdict


def verify(completion: str, row: Columns) -> Verdict:
    """Match ``completion`` with the row's pattern."""
    pattern, anywhere = row["pattern"], row.get("anywhere", False)
    if not isinstance(pattern, str) or not isinstance(anywhere, bool):
        return Verdict(0.0, None, "the row's pattern must be text, and its anywhere true or false", "not_gradable")
    try:
        compiled = compile_pattern(pattern)
    except re2.error as error:
        return Verdict(0.0, None, f"RE2 cannot use the row's pattern: {error_text(error)}", "not_gradable")
    text = utf8(completion.strip())
    if not text:
        return Verdict(0.0, None, "the completion is blank", "no_answer")
    match = compiled.search(text) if anywhere else compiled.fullmatch(text)
    if match is None:
        return Verdict(0.0, completion.strip(), "the pattern does not match")
    return Verdict(1.0, match.group().decode(errors="replace"), "the pattern matches")


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> Any:
    """Compile ``pattern`` for texts in UTF-8, since RE2 refuses half a surrogate pair in a `str`. Raises re2.error."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(utf8(pattern), options)


def utf8(text: str) -> bytes:
    """``text`` in UTF-8, with half a surrogate pair encoded as if it were a character."""
    return text.encode(errors="surrogatepass")


def error_text(error: Exception) -> str:
    """The text of an error; RE2's errors hold it in bytes."""
    text = error.args[0] if isinstance(error, re2.error) and error.args else error
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
