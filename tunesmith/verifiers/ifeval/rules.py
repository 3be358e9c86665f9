"""IFEval's rules, each a pure function from a text and an instruction's settings to whether it is followed.

They agree with the reference implementation (google-research/instruction_following_eval), its quirks included, so that
scores can be compared with published ones. They differ where that is not fit to grade with: a keyword, marker or
splitter is text, never a regular expression; the "letters" ``#`` and ``!`` of two prompts are themselves, not a letter
drawn at random; no text takes more than about linear time; JSON nested too deep to read is not JSON, not an error.
"""

import json
import re
from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    SkipValidation,
    StringConstraints,
    validate_call,
)

from tunesmith.verifiers.ifeval import language as languages

Relation = Literal["less than", "at least"]
Answer: TypeAlias = Annotated[str, SkipValidation]
"""A completion, which is not validated: it comes from a model, and any text is graded."""
Text: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Texts: TypeAlias = Annotated[list[Text], Field(min_length=1)]

OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
POSTSCRIPTS = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}
FENCES = ("```json", "```Json", "```JSON", "```")


def existence(text: Answer, /, *, keywords: Texts) -> bool:
    return all(_occurrences(keyword, text) for keyword in keywords)


def frequency(text: Answer, /, *, keyword: Text, frequency: NonNegativeInt, relation: Relation) -> bool:
    """Count the keyword inside longer words too."""
    return _compare(_occurrences(keyword, text), relation, frequency)


def forbidden_words(text: Answer, /, *, forbidden_words: Texts) -> bool:
    """Forbid each of the words as a word of its own."""
    return not any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(
    text: Answer,
    /,
    *,
    letter: Annotated[Text, Field(max_length=1)],
    let_frequency: NonNegativeInt,
    let_relation: Relation,
) -> bool:
    return _compare(text.lower().count(letter.lower()), let_relation, let_frequency)


def response_language(text: Answer, /, *, language: Annotated[str, AfterValidator(languages.check_known)]) -> bool:
    """Require the language; a text without letters is in every one."""
    return languages.detect(text) in (language, None)


def number_sentences(text: Answer, /, *, num_sentences: NonNegativeInt, relation: Relation) -> bool:
    return _compare(languages.count_sentences(text), relation, num_sentences)


def number_paragraphs(text: Answer, /, *, num_paragraphs: NonNegativeInt) -> bool:
    """Require exactly so many between dividers (``***``), none of them empty; a divider may come first or last."""
    filled = [bool(part.strip()) for part in re.split(r"\s?\*\*\*\s?", text)]
    return all(filled[1:-1]) and sum(filled) == num_paragraphs


def number_words(text: Answer, /, *, num_words: NonNegativeInt, relation: Relation) -> bool:
    return _compare(len(re.findall(r"\w+", text)), relation, num_words)


def nth_paragraph_first_word(
    text: Answer, /, *, num_paragraphs: PositiveInt, nth_paragraph: PositiveInt, first_word: Text
) -> bool:
    """Require exactly so many between empty lines, and the word at the start of the nth; empty ones take a place."""
    paragraphs = [paragraph.strip() for paragraph in text.split("\n\n")]
    filled = sum(map(bool, paragraphs))
    if filled != num_paragraphs or nth_paragraph > filled or not paragraphs[nth_paragraph - 1]:
        return False
    word = paragraphs[nth_paragraph - 1].split(maxsplit=1)[0].lstrip("'").lstrip('"')
    return re.split("[.,?!'\"]", word)[0].lower() == first_word.lower()


def number_placeholders(text: Answer, /, *, num_placeholders: NonNegativeInt) -> bool:
    """Require at least so many ``[placeholder]``, each on one line."""
    return sum(map(_placeholders, text.split("\n"))) >= num_placeholders


def postscript(text: Answer, /, *, postscript_marker: Text) -> bool:
    """Require the marker anywhere, in either case."""
    marker = POSTSCRIPTS.get(postscript_marker, re.escape(postscript_marker.lower()))
    return re.search(marker, text.lower()) is not None


def number_bullet_lists(text: Answer, /, *, num_bullets: NonNegativeInt) -> bool:
    """Require exactly so many lines with ``-`` or one ``*`` at the start; a lone ``*`` takes the next line with it."""
    lines = [line.lstrip() for line in text.split("\n")]
    bullets = sum(line.startswith("-") for line in lines)
    rest = iter(lines)
    for line in rest:
        if line == "*":
            bullets += next(rest, None) is not None
        else:
            bullets += line.startswith("*") and line[1] != "*"
    return bullets == num_bullets


def constrained_response(text: Answer, /) -> bool:
    return any(option in text for option in OPTIONS)


def number_highlighted_sections(text: Answer, /, *, num_highlights: NonNegativeInt) -> bool:
    """Require at least so many ``*highlights*``; a ``**double one**`` counts once."""
    highlights = re.findall(r"\*[^\n*]*\*", text) + re.findall(r"\*\*[^\n*]*\*\*", text)
    return sum(1 for highlight in highlights if highlight.strip("*").strip()) >= num_highlights


def multiple_sections(text: Answer, /, *, section_spliter: Text, num_sections: NonNegativeInt) -> bool:
    """Require at least so many headings: the splitter, then a number."""
    return len(re.findall(re.escape(section_spliter) + r"\s?\d+", text)) >= num_sections


def json_format(text: Answer, /) -> bool:
    """Require JSON and nothing else, between Markdown fences or not."""
    bare = text.strip()
    for fence in FENCES:
        bare = bare.removeprefix(fence)
    try:
        json.loads(bare.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(text: Answer, /) -> bool:
    """Require a ``<<title>>`` on one line."""
    return any(map(_title, text.split("\n")))


def two_responses(text: Answer, /) -> bool:
    """Require two responses that differ, with ``******`` between them; it may come first or last too."""
    parts = [part.strip() for part in text.split("******")]
    responses = [part for part in parts if part]
    return all(parts[1:-1]) and len(responses) == 2 and responses[0] != responses[1]


def repeat_prompt(text: Answer, /, *, prompt_to_repeat: Text) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.lower())


def end_checker(text: Answer, /, *, end_phrase: Text) -> bool:
    """Require the phrase at the end of the text, without the quotation marks around the text."""
    return text.strip().strip('"').lower().endswith(end_phrase.lower())


def capital_word_frequency(text: Answer, /, *, capital_frequency: NonNegativeInt, capital_relation: Relation) -> bool:
    return _compare(sum(word.isupper() for word in languages.words(text)), capital_relation, capital_frequency)


def english_capital(text: Answer, /) -> bool:
    return text.isupper() and languages.detect(text) in ("en", None)


def english_lowercase(text: Answer, /) -> bool:
    return text.islower() and languages.detect(text) in ("en", None)


def no_comma(text: Answer, /) -> bool:
    return "," not in text


def quotation(text: Answer, /) -> bool:
    """Require straight double quotation marks around the text."""
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def _compare(count: int, relation: Relation, threshold: int) -> bool:
    return count < threshold if relation == "less than" else count >= threshold


def _occurrences(keyword: str, text: str) -> int:
    return len(re.findall(re.escape(keyword), text, re.IGNORECASE))


def _placeholders(line: str) -> int:
    """The number of ``[...]`` in a line. A regular expression would take quadratic time on a row of brackets."""
    count, start = 0, line.find("[")
    while start >= 0 and (end := line.find("]", start)) >= 0:
        count, start = count + 1, line.find("[", end)
    return count


def _title(line: str) -> bool:
    """Whether a line has text between its first ``<<`` and its last ``>>``."""
    start, end = line.find("<<"), line.rfind(">>")
    return start >= 0 and end > start + 2 and bool(line[start:end].lstrip("<").rstrip(">").strip())


RULES: dict[str, Callable[..., bool]] = {
    "change_case:capital_word_frequency": validate_call(capital_word_frequency),
    "change_case:english_capital": validate_call(english_capital),
    "change_case:english_lowercase": validate_call(english_lowercase),
    "combination:repeat_prompt": validate_call(repeat_prompt),
    "combination:two_responses": validate_call(two_responses),
    "detectable_content:number_placeholders": validate_call(number_placeholders),
    "detectable_content:postscript": validate_call(postscript),
    "detectable_format:constrained_response": validate_call(constrained_response),
    "detectable_format:json_format": validate_call(json_format),
    "detectable_format:multiple_sections": validate_call(multiple_sections),
    "detectable_format:number_bullet_lists": validate_call(number_bullet_lists),
    "detectable_format:number_highlighted_sections": validate_call(number_highlighted_sections),
    "detectable_format:title": validate_call(title),
    "keywords:existence": validate_call(existence),
    "keywords:forbidden_words": validate_call(forbidden_words),
    "keywords:frequency": validate_call(frequency),
    "keywords:letter_frequency": validate_call(letter_frequency),
    "language:response_language": validate_call(response_language),
    "length_constraints:nth_paragraph_first_word": validate_call(nth_paragraph_first_word),
    "length_constraints:number_paragraphs": validate_call(number_paragraphs),
    "length_constraints:number_sentences": validate_call(number_sentences),
    "length_constraints:number_words": validate_call(number_words),
    "punctuation:no_comma": validate_call(no_comma),
    "startend:end_checker": validate_call(end_checker),
    "startend:quotation": validate_call(quotation),
}
"""The rule of every instruction of IFEval, by its id. Raises ValueError for settings that are absent, unknown or of the
wrong type."""
