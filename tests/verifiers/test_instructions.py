import importlib
import random
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.verifiers import instructions
from tunesmith.verifiers.ifeval import language as languages
from tunesmith.verifiers.ifeval.rules import RULES

PROMPT = "Write a line about the sea."
GERMAN = "Das Wetter ist heute sehr schön, und wir gehen mit den Kindern an den Strand."
ENGLISH = "The weather is very nice today and we are going to the beach with our children."

GOLD: list[tuple[str, dict[str, object], str, str]] = [
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "GO NOW.", "Go!"),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"}, "A b", "I AM"),
    ("change_case:english_capital", {}, ENGLISH.upper(), ENGLISH),
    ("change_case:english_lowercase", {}, ENGLISH.lower(), GERMAN.lower()),
    ("combination:repeat_prompt", {"prompt_to_repeat": PROMPT}, f"{PROMPT}\n\nBlue.", f"Sure! {PROMPT}\n\nBlue."),
    ("combination:two_responses", {}, "One.\n******\nTwo.", "One.\n******\nOne."),
    ("combination:two_responses", {}, "******\nOne.\n******\nTwo.", "One.\n******\n\n******\nTwo."),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], at [place]", "[name], at [place"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np. s. I forgot.", "Bye.\nPS I forgot."),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S. More.", "Bye.\nP.S. More."),
    ("detectable_content:postscript", {"postscript_marker": "N.B."}, "N.B. this", "NaBi this"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
    ("detectable_format:json_format", {}, '```json\n{"a": [1, 2]}\n```', '{"a": [1, 2]} is JSON'),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1\nA\nSECTION 2\nB",
        "Section 1\nA\nSection 2\nB",
    ),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "So:\n* one\n  - two", "So:\n* one\n- two\n- three"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "**Title**\n* one", "**Title**\nnone\n*"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and **"),
    ("detectable_format:title", {}, "<<Of the sea>>\nBlue.", "<<>>\nBlue >> and <<"),
    ("keywords:existence", {"keywords": ["sea", "sky"]}, "The SEA and the sky", "The sea"),
    ("keywords:existence", {"keywords": ["C++", "a.b"]}, "c++ has no a.b", "C has no azb"),
    ("keywords:forbidden_words", {"forbidden_words": ["sea", "C++"]}, "The season of C", "The Sea"),
    ("keywords:forbidden_words", {"forbidden_words": ["C++"]}, "I like C", "I like C++, too"),
    ("keywords:frequency", {"keyword": "sea", "frequency": 2, "relation": "at least"}, "Sea, season", "sea"),
    ("keywords:frequency", {"keyword": "sea", "frequency": 2, "relation": "less than"}, "sea", "sea sea"),
    ("keywords:letter_frequency", {"letter": "Q", "let_frequency": 1, "let_relation": "at least"}, "quay", "bay"),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "at least"}, "#a #b", "#a"),
    ("language:response_language", {"language": "de"}, GERMAN, ENGLISH),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Waves"},
        "The sea.\n\n'waves, always",
        "The sea.\n\nWavesong\n\nwaves",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One.\n\n***\n\nTwo.\n***", "One.\n\nTwo."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One. *** Two.", "One.\n***\n***\nTwo."),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "less than"},
        "Mr. Fox left at 5 p.m. on Monday. Why?",
        "One. Two! Three?",
    ),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "Yes. Sure.", "Yes, sure."),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "the grey sea", "the sea"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "the sea", "the grey sea"),
    ("punctuation:no_comma", {}, "Blue and grey.", "Blue, and grey."),
    ("startend:end_checker", {"end_phrase": "That is all."}, '"So. That is ALL."', "That is all. Bye."),
    ("startend:quotation", {}, '"Blue."', '"Blue.'),
]


def row(*ids: str, settings: Iterable[object] = ()) -> dict[str, object]:
    return {"instructions": list(ids), "settings": list(settings) or [{}] * len(ids)}


@pytest.mark.parametrize(("id_", "settings", "gold", "corrupted"), GOLD)
def test_gold_gets_full_marks_and_a_corrupted_one_none(
    id_: str, settings: dict[str, object], gold: str, corrupted: str
) -> None:
    columns = row(id_, settings=[settings])
    assert instructions.verify(gold, columns).score == 1
    verdict = instructions.verify(corrupted, columns)
    assert (verdict.score, verdict.status, verdict.answer) == (0, "scored", "0 of 1")
    assert id_ in verdict.reason


def test_every_instruction_of_ifeval_has_a_rule_and_every_rule_a_gold_answer() -> None:
    assert len(RULES) == 25
    assert {id_ for id_, *_ in GOLD} == set(RULES)


def test_one_instruction_not_followed_fails_the_prompt_and_is_named() -> None:
    columns = row("punctuation:no_comma", "startend:quotation", "detectable_format:title")
    verdict = instructions.verify('"<<Sea>> Blue, grey"', columns)
    assert (verdict.score, verdict.answer, verdict.reason) == (0, "2 of 3", "not followed: punctuation:no_comma")


def test_an_instruction_given_twice_counts_twice() -> None:
    settings = [{"num_words": 2, "relation": "at least"}, {"num_words": 3, "relation": "less than"}]
    columns = row("length_constraints:number_words", "length_constraints:number_words", settings=settings)
    assert instructions.verify("a b", columns).answer == "2 of 2"
    assert instructions.verify("a b c", columns).answer == "1 of 2"


LOOSE = [
    ("Sure, here it is:\nBlue.", "punctuation:no_comma"),
    ('"Blue."\nAnything else?', "startend:quotation"),
    ('Sure:\n"Blue."\nAnything else?', "startend:quotation"),
    ('**"Blue."**', "startend:quotation"),
]


@pytest.mark.parametrize(("completion", "id_"), LOOSE)
def test_loose_forgives_a_first_line_a_last_line_and_asterisks(completion: str, id_: str) -> None:
    (result,) = instructions.check(completion, row(id_))
    assert result == instructions.InstructionResult(id_, strict=False, loose=True)
    assert "loosely followed" in instructions.verify(completion, row(id_)).reason


@pytest.mark.parametrize("empty", ["", " \n\t"])
def test_an_empty_completion_follows_no_instruction(empty: str) -> None:
    verdict = instructions.verify(empty, row("punctuation:no_comma"))
    assert (verdict.score, verdict.status) == (0, "no_answer")
    assert not instructions.check(empty, row("punctuation:no_comma"))[0].loose


NOT_GRADABLE: list[tuple[dict[str, object], str]] = [
    (row("keywords:key_sentences"), "keywords:key_sentences"),
    (row("length_constraints:number_words", settings=[{"num_words": 3}]), "relation"),
    (row("length_constraints:number_words", settings=[{"num_words": "many", "relation": "at least"}]), "num_words"),
    (row("length_constraints:number_words", settings=[{"num_words": 3, "relation": "at most"}]), "relation"),
    (row("punctuation:no_comma", settings=[{"num_words": 3}]), "num_words"),
    (row("keywords:existence", settings=[{"keywords": []}]), "keywords"),
    (row("keywords:existence", settings=[{"keywords": ["", "a"]}]), "keywords"),
    (row("language:response_language", settings=[{"language": "xx"}]), "language"),
    (row("punctuation:no_comma", settings=[{}, {}]), "settings"),
    (row("punctuation:no_comma", settings=["no"]), "punctuation:no_comma"),
    ({"instructions": [], "settings": []}, "instructions"),
    ({"instructions": "punctuation:no_comma", "settings": [{}]}, "instructions"),
    ({"instructions": [None], "settings": [{}]}, "None"),
]


@pytest.mark.parametrize(("columns", "name"), NOT_GRADABLE)
@pytest.mark.parametrize("completion", ["Blue.", ""])
def test_instructions_that_no_rule_can_check_are_not_gradable(
    columns: dict[str, object], name: str, completion: str
) -> None:
    verdict = instructions.verify(completion, columns)
    assert verdict.status == "not_gradable"
    assert name in verdict.reason


def test_null_settings_count_as_absent() -> None:
    """In the hub's copy of IFEval, every row has every setting of every instruction."""
    settings = {"num_words": 2, "relation": "at least", "keywords": None, "letter": None}
    assert instructions.verify("the sea", row("length_constraints:number_words", settings=[settings])).score == 1
    assert instructions.verify("sea", {"instructions": ["punctuation:no_comma"], "settings": None}).score == 1


ONE_OF_EACH = {id_: settings for id_, settings, *_ in GOLD}


@given(st.text(st.characters(), max_size=60))  # surrogates too
def test_no_text_makes_a_rule_raise(text: str) -> None:
    verdict = instructions.verify(text, row(*ONE_OF_EACH, settings=ONE_OF_EACH.values()))
    assert verdict.status == ("scored" if text.strip() else "no_answer")


HOSTILE = [
    "a",
    " ",
    "\n",
    "*",
    "[",
    "<",
    "<<",
    "{",
    '{"a":',
    "[[",
    "- ",
    "*\n",
    ". ",
    "A. b ",
    "a.",
    "]",
    '"',
    "p.",
    "é",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_rule_takes_about_linear_time(piece: str) -> None:
    columns = row(*ONE_OF_EACH, settings=ONE_OF_EACH.values())
    text = "x" + piece * (50_000 // len(piece)) + "x"
    started = time.process_time()
    assert instructions.verify(text, columns).status == "scored"
    assert time.process_time() - started < 10  # 0.1 to 1 s; quadratic, it would be minutes


@pytest.fixture(scope="module")
def reference() -> Iterator[Any]:
    """The rules of lm-eval's IFEval alone, without importing torch or downloading anything."""
    import langdetect
    import nltk

    lm_eval = find_spec("lm_eval")
    assert lm_eval is not None
    assert lm_eval.origin is not None
    root = Path(lm_eval.origin).parent
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in {"": ".", ".tasks": "tasks", ".tasks.ifeval": "tasks/ifeval"}.items():
            package = ModuleType(f"lm_eval{name}")
            package.__path__ = [str(root / folder)]
            patch.setitem(sys.modules, f"lm_eval{name}", package)
        patch.setitem(sys.modules, "immutabledict", ModuleType("immutabledict"))
        patch.setattr(sys.modules["immutabledict"], "immutabledict", dict, raising=False)
        patch.setattr(nltk.data, "find", lambda name: name)
        patch.setattr(nltk.data, "load", lambda name: languages._sentence_splitter())
        patch.setattr(nltk, "word_tokenize", languages.words)
        patch.setattr(langdetect.DetectorFactory, "seed", 0)
        yield importlib.import_module("lm_eval.tasks.ifeval.utils")
        for name in [name for name in sys.modules if name.startswith("lm_eval.tasks.ifeval.")]:
            patch.delitem(sys.modules, name)


PIECES = (
    """
The|sea|Sea.|GO NOW|NASA|*|**|***|******|*bold*|**two words**|[name]|[|]|<<A title>>|<<>>|,|"|'|\n|\n\n|\n- item
|\n* item|\n*\n|P.S. bye|p.p.s more|My answer is no.|```json\n|```|{"a": 1}|SECTION 1|SECTION 2|That is all.|waves
|quay|Mr. Fox|a.b
""".replace("\n", "")
    .replace("\\n", "\n")
    .split("|")
)


UNLIKE_REFERENCE = {"#", "C++", "N.B."}
"""Settings for which lm-eval draws another letter, or reads keywords and markers as regular expressions."""


def random_texts(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [rng.choice(["", " "]).join(rng.choices(PIECES, k=rng.randint(1, 30))) for _ in range(count)]


@pytest.mark.parametrize("texts", [[text for *_, gold, bad in GOLD for text in (gold, bad)], random_texts(0, 80)])
def test_strict_and_loose_results_agree_with_lm_eval(reference: Any, texts: list[str]) -> None:
    cases = [(id_, kwargs) for id_, kwargs, *_ in GOLD if not UNLIKE_REFERENCE & set(str(kwargs).split("'"))]
    ids, settings = [id_ for id_, _ in cases], [kwargs for _, kwargs in cases]
    example = reference.InputExample(key=0, instruction_id_list=ids, prompt=PROMPT, kwargs=settings)
    for text in texts:
        results = instructions.check(text, row(*ids, settings=settings))
        strict = reference.test_instruction_following_strict(example, text).follow_instruction_list
        loose = reference.test_instruction_following_loose(example, text).follow_instruction_list
        assert [(result.strict, result.loose) for result in results] == list(zip(strict, loose, strict=True)), text
