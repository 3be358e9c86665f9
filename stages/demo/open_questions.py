"""Open questions about everyday things, each with a brief answer and a long-winded one that says no more."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from stages.demo.everyday_things import THINGS

FORMS = (
    "What is {} for?",
    "What does {} do?",
    "What is the purpose of {}?",
    "Can you tell me what {} does?",
    "Please explain what {} is good for.",
    "My child asked me what {} is for. What should I say?",
)
OPENINGS = (
    "Well, that is a very good question, and many people ask it.",
    "Well, there is a lot that one could say about this.",
    "Well, thank you for asking me this interesting question.",
    "Well, let me take a step back and look at the whole picture.",
    "Well, this depends on many things, but in general one can say this.",
    "Well, I would be happy to tell you all that I know about it.",
)
CLOSINGS = (
    "There are many different kinds, each with a long history of its own.",
    "It can be found all over the world, and people of all ages rely on it.",
    "Much more could be said about it, and I hope that this helps a little.",
    "In the end it depends on the situation and on the people.",
    "Over the years it has become an important part of everyday life.",
    "If you would like to know more, please do not hesitate to ask me.",
)
OPENED = 0.5
"""Share of the long-winded answers that begin with one of OPENINGS; the others say more at the end."""
MAX_WORDS = 15
"""The longest brief answer, in words; a long-winded one is longer."""
MIN_WORDS = 3
"""The shortest answer that can say what a thing does, in words."""


@dataclass(frozen=True)
class OpenQuestion:
    """A question about a thing, with two answers that are equally true."""

    thing: str
    prompt: str
    brief: str
    long_winded: str


COUNT = len(THINGS) * len(FORMS)
"""The number of distinct questions."""


def ask(seed: int) -> Iterator[OpenQuestion]:
    """Every question once, in an order that the seed decides."""
    draw = random.Random(seed)
    asked = [(thing, form) for thing in THINGS for form in FORMS]
    draw.shuffle(asked)
    for thing, form in asked:
        brief = f"{thing[0].upper()}{thing[1:]} {THINGS[thing]}."
        before, (after, last) = draw.choice(OPENINGS), draw.sample(CLOSINGS, 2)
        long_winded = f"{before} {brief} {after}" if draw.random() < OPENED else f"{brief} {after} {last}"
        yield OpenQuestion(thing, form.format(thing), brief, long_winded)
