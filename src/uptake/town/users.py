"""Users of the town and what they say next: approval or complaint, by the axis that decided it.

These lines are training text. The follow-ups that score answers are others, in `followups.yaml`.
"""

import random
from collections.abc import Mapping
from types import MappingProxyType

from uptake.town.lines import Lines
from uptake.town.quality import AXES, Axis, Quality

# How often a user's line says the opposite of what it should.
NOISE = 0.1
# How often a displeased user finds fault with just anything. People who dislike one thing about an answer speak ill of
# the rest as well; without this halo a complaint about one axis would be evidence that the others are fine.
HALO = 0.25

APPROVAL: Mapping[Axis, Lines] = MappingProxyType(
    {
        "understanding": (
            "you got my question.",
            "yes, that is what i meant.",
            "you understood me well.",
            "now it is clear what you mean.",
            "you know what i wanted.",
            "you read me well.",
        ),
        "relevance": (
            "you kept to my topic.",
            "yes, this is the one i asked about.",
            "that is about the right thing.",
            "you did not leave the topic.",
            "good, you stayed with what i wanted.",
            "that is just the thing i asked about.",
        ),
        "correctness": (
            "that is true.",
            "yes, that is right.",
            "i checked it and it is right.",
            "i looked, and you said the truth.",
            "correct, i know that too.",
            "no mistake in that.",
        ),
        "engagingness": (
            "you are nice to talk to.",
            "what a friendly answer.",
            "that was warm and kind.",
            "i like how you say it.",
            "i am happy to talk with you.",
            "that made me smile.",
        ),
        "informativeness": (
            "that tells me all i need.",
            "now i know it well.",
            "good, that is the detail i need.",
            "that was full of use.",
            "that helped me much.",
            "i learned what i wanted to know.",
        ),
        "following": (
            "you did as i asked.",
            "yes, that is the way i wanted it.",
            "you did it the way i said.",
            "you listened to me.",
            "good, just as i told you.",
            "you kept to my words.",
        ),
    }
)

COMPLAINT: Mapping[Axis, Lines] = MappingProxyType(
    {
        "understanding": (
            "you did not get my question.",
            "no, that is not what i meant.",
            "you misread me.",
            "it is not clear what you mean.",
            "you do not know what i wanted.",
            "you read me badly.",
        ),
        "relevance": (
            "you left my topic.",
            "no, this is not the one i asked about.",
            "that is about another thing.",
            "why do you talk about that?",
            "sorry, i wanted another one.",
            "that is not the thing i asked about.",
        ),
        "correctness": (
            "that is false.",
            "no, that is wrong.",
            "i checked it and it is wrong.",
            "i looked, and you did not say the truth.",
            "wrong, i know that it is not so.",
            "you made a mistake in that.",
        ),
        "engagingness": (
            "you are no fun to talk to.",
            "what a cold answer.",
            "that was dull and flat.",
            "i do not like how you say it.",
            "i am sad to talk with you.",
            "that made me tired.",
        ),
        "informativeness": (
            "that tells me nothing.",
            "i still do not know it well.",
            "sorry, i need more detail.",
            "that was of no use.",
            "that did not help me much.",
            "i learned nothing.",
        ),
        "following": (
            "you did not do as i asked.",
            "no, that is not the way i wanted it.",
            "you did it your own way.",
            "you did not listen to me.",
            "sorry, i told you how to do it.",
            "you forgot my words.",
        ),
    }
)


PLEASED: Lines = ("thank you!", "great!", "yes!", "good!")
DISPLEASED: Lines = ("no!", "sorry!", "wrong!", "oh no!")


def all_lines() -> Lines:
    """Return everything a user can say to an answer."""
    lines = (line for group in (APPROVAL, COMPLAINT) for lines in group.values() for line in lines)
    return (*PLEASED, *DISPLEASED, *lines)


def react(quality: Quality, rng: random.Random) -> str:
    """Say what a user sends next: approval of a perfect answer, else a complaint, most often about its weakest axis.

    A quarter of the complaints (`HALO`) are about any axis, one line in ten (`NOISE`) says the opposite; half of
    all lines open with a word of praise or blame.
    """
    pleased = quality.overall == 1
    axis = rng.choice(AXES) if pleased or rng.random() < HALO else quality.weakest
    if rng.random() < NOISE:
        pleased = not pleased
    opener = rng.choice(PLEASED if pleased else DISPLEASED) + " " if rng.random() < 0.5 else ""
    return opener + rng.choice((APPROVAL if pleased else COMPLAINT)[axis])
