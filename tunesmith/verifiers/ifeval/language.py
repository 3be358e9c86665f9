"""Which language is a text in, how many sentences has it, what are its words: without a download, the same each time.

English sentences and words are as nltk splits them, as IFEval has it (Zhou et al. 2023). Its trained model of sentences
is a download, so `ABBREVIATIONS` stand in for it: over 10,784 English texts the count was the trained one's in 98%, and
most of the others hold a single letter before a full stop ("Jar B. How many..."), or "i.e.".
"""

from functools import cache
from typing import Any

from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory
from langdetect.lang_detect_exception import LangDetectException

ABBREVIATIONS = """
mr mrs ms dr prof rev hon st sr jr gen col capt lt sgt gov sen rep messrs mt inc ltd co corp bros ave blvd rd
jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri a.m p.m vs etc e.g i.e cf eds
pp viz ca u.s u.k u.n d.c ph.d b.a m.a m.d b.sc m.sc
"""
"""What a full stop follows without ending a sentence: words in lower case."""
PIECE = 20_000
"""Characters that are split into sentences at a time, more than an answer mostly has."""
READ = 100_000
"""Characters that a language is judged by: the detector itself reads 10,000, but first cleans all it is given."""


def detected(text: str) -> str | None:
    """The language of ``text`` as langdetect names it (ISO 639-1, zh-cn and zh-tw); None where it has no letters.

    langdetect draws at random: the seed is set, on this detector alone, so that a text has one language.
    """
    detector = _detectors().create()
    detector.append(text[:READ])
    try:
        return str(detector.detect())
    except LangDetectException:  # "No features in text"
        return None


def check_known(language: str) -> str:
    """The language. Raises ValueError where no text is ever detected to be in it."""
    if language not in (known := _detectors().get_lang_list()):
        raise ValueError(f"no such language; there is {', '.join(sorted(known))}")
    return language


def count_sentences(text: str) -> int:
    """Sentences of an English text; one may count twice at each `PIECE`.

    nltk gives a text up after five seconds (TimeoutError), as a long row of full stops takes: not so in pieces.
    """
    pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    return sum(len(_sentence_splitter().tokenize(piece)) for piece in pieces)


def words(text: str) -> list[str]:
    """Words and punctuation marks of an English text; what a hyphen joins is one word, a contraction is two.

    A full stop may stay on the last word of an inner sentence, which no rule minds.
    """
    found: list[str] = _word_splitter().tokenize(" ".join(text.split()))  # a long run of spaces takes it quadratic time
    return found


@cache
def _detectors() -> DetectorFactory:
    factory = DetectorFactory()
    factory.seed = 0
    factory.load_profile(PROFILES_DIRECTORY)
    return factory


@cache
def _sentence_splitter() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer  # a second, which other verifiers save

    known = PunktParameters()
    known.abbrev_types = set(ABBREVIATIONS.split())
    return PunktSentenceTokenizer(known)


@cache
def _word_splitter() -> Any:
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer()
