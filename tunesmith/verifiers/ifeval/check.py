"""IFEval's rules (Zhou et al. 2023, arXiv:2311.07911) by the id of the instruction each one checks."""

from collections.abc import Callable
from typing import TypeAlias

from pydantic import validate_call

from tunesmith.verifiers.ifeval import rules

Rule: TypeAlias = Callable[..., bool]

RULES: dict[str, Rule] = {
    "change_case:capital_word_frequency": validate_call(rules.capital_word_frequency),
    "change_case:english_capital": validate_call(rules.english_capital),
    "change_case:english_lowercase": validate_call(rules.english_lowercase),
    "combination:repeat_prompt": validate_call(rules.repeat_prompt),
    "combination:two_responses": validate_call(rules.two_responses),
    "detectable_content:number_placeholders": validate_call(rules.number_placeholders),
    "detectable_content:postscript": validate_call(rules.postscript),
    "detectable_format:constrained_response": validate_call(rules.constrained_response),
    "detectable_format:json_format": validate_call(rules.json_format),
    "detectable_format:multiple_sections": validate_call(rules.multiple_sections),
    "detectable_format:number_bullet_lists": validate_call(rules.number_bullet_lists),
    "detectable_format:number_highlighted_sections": validate_call(rules.number_highlighted_sections),
    "detectable_format:title": validate_call(rules.title),
    "keywords:existence": validate_call(rules.existence),
    "keywords:forbidden_words": validate_call(rules.forbidden_words),
    "keywords:frequency": validate_call(rules.frequency),
    "keywords:letter_frequency": validate_call(rules.letter_frequency),
    "language:response_language": validate_call(rules.response_language),
    "length_constraints:nth_paragraph_first_word": validate_call(rules.nth_paragraph_first_word),
    "length_constraints:number_paragraphs": validate_call(rules.number_paragraphs),
    "length_constraints:number_sentences": validate_call(rules.number_sentences),
    "length_constraints:number_words": validate_call(rules.number_words),
    "punctuation:no_comma": validate_call(rules.no_comma),
    "startend:end_checker": validate_call(rules.end_checker),
    "startend:quotation": validate_call(rules.quotation),
}
"""Every instruction of IFEval, by its id. Settings that are absent, unknown or of the wrong kind raise ValueError."""
