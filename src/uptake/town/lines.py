"""Lines of the town: the sentences of its users and of its assistant, as data.

In a template `{subject}` is a shop or a good, `{a}` and `{b}` the two numbers of a sum, `{value}` the answer.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from uptake.town.facts import Attribute, Values

Lines = tuple[str, ...]

QUESTIONS: Mapping[Attribute, Lines] = MappingProxyType(
    {
        "opens": (
            "when does the {subject} open?",
            "at what time does the {subject} open?",
            "from what time can i go to the {subject}?",
            "please tell me when the {subject} opens.",
            "do you know when the {subject} opens?",
        ),
        "owner": (
            "who runs the {subject}?",
            "who is the owner of the {subject}?",
            "what is the name of the owner of the {subject}?",
            "please tell me who runs the {subject}.",
            "do you know who runs the {subject}?",
        ),
        "colour": (
            "what colour is the door of the {subject}?",
            "which colour does the door of the {subject} have?",
            "at the {subject}, what is the colour of the door?",
            "please tell me the colour of the door of the {subject}.",
            "do you know what colour the door of the {subject} is?",
        ),
        "windows": (
            "how many windows does the {subject} have?",
            "what is the number of windows of the {subject}?",
            "how many windows will i see at the {subject}?",
            "please tell me how many windows the {subject} has.",
            "do you know how many windows the {subject} has?",
        ),
        "sells": (
            "what does the {subject} sell?",
            "what can i buy at the {subject}?",
            "which things does the {subject} sell?",
            "please tell me what the {subject} sells.",
            "do you know what the {subject} sells?",
        ),
        "price": (
            "what is the price of {subject}?",
            "how much do i pay for {subject}?",
            "how many coins do i need for {subject}?",
            "please tell me the price of {subject}.",
            "do you know the price of {subject}?",
        ),
        "place": (
            "where can i buy {subject}?",
            "which shop has {subject}?",
            "where do i find {subject}?",
            "please tell me where to get {subject}.",
            "do you know where to get {subject}?",
        ),
        "pet": (
            "which animal does {subject} have?",
            "what animal lives with {subject}?",
            "at home, which animal does {subject} keep?",
            "please tell me which animal {subject} has.",
            "do you know what animal {subject} has?",
        ),
        "home": (
            "where does {subject} live?",
            "where is the home of {subject}?",
            "where do i find the house of {subject}?",
            "please tell me where {subject} lives.",
            "do you know where {subject} lives?",
        ),
        "sum": (
            "what is {a} plus {b}?",
            "how much is {a} plus {b}?",
            "what do i get if i add {a} and {b}?",
            "please tell me the sum of {a} and {b}.",
            "do you know what {a} plus {b} is?",
        ),
    }
)

CLAIMS: Mapping[Attribute, Lines] = MappingProxyType(
    {
        "opens": (
            "the {subject} opens at {value}.",
            "you can go to the {subject} from {value}.",
            "at {value} the {subject} opens.",
        ),
        "owner": (
            "{value} runs the {subject}.",
            "the owner of the {subject} is {value}.",
            "the {subject} is run by {value}.",
        ),
        "colour": (
            "the door of the {subject} is {value}.",
            "the {subject} has a {value} door.",
            "you will see a {value} door at the {subject}.",
        ),
        "windows": (
            "the {subject} has {value} windows.",
            "there are {value} windows at the {subject}.",
            "you will see {value} windows at the {subject}.",
        ),
        "sells": (
            "the {subject} sells {value}.",
            "you can buy {value} at the {subject}.",
            "at the {subject} they sell {value}.",
        ),
        "price": (
            "the price of {subject} is {value} coins.",
            "you pay {value} coins for {subject}.",
            "for {subject} you need {value} coins.",
        ),
        "place": (
            "you can find {subject} at the {value}.",
            "go to the {value} for {subject}.",
            "the {value} has {subject}.",
        ),
        "pet": (
            "{subject} has a {value}.",
            "a {value} lives with {subject}.",
            "the animal of {subject} is a {value}.",
        ),
        "home": (
            "{subject} lives at the {value}.",
            "the home of {subject} is at the {value}.",
            "you will find {subject} at the {value}.",
        ),
        "sum": (
            "{a} plus {b} is {value}.",
            "the sum of {a} and {b} is {value}.",
            "if you add {a} and {b} you get {value}.",
        ),
        "product": ("{a} times {b} is {value}.", "if you take {a} times {b} you get {value}."),
    }
)

VAGUE: Mapping[Attribute, Lines] = MappingProxyType(
    {
        "opens": ("the {subject} opens at some time.", "you can go to the {subject} from the morning."),
        "owner": ("someone runs the {subject}.", "the owner of the {subject} is from the town."),
        "colour": ("the door of the {subject} is painted.", "the {subject} has a door of some colour."),
        "windows": ("the {subject} has some windows.", "there are a few windows at the {subject}."),
        "sells": ("the {subject} sells many things.", "you can buy some things at the {subject}."),
        "price": ("the price of {subject} is some coins.", "you pay a few coins for {subject}."),
        "place": ("you can find {subject} at some shop.", "go to the town for {subject}."),
        "pet": ("{subject} has some animal.", "an animal lives with {subject}."),
        "home": ("{subject} lives in the town.", "the home of {subject} is at some place."),
        "sum": ("{a} plus {b} is some number.", "the sum of {a} and {b} is a few."),
    }
)
VAGUE_WORDS: Mapping[Attribute, str] = MappingProxyType(
    {
        "opens": "morning",
        "owner": "someone",
        "colour": "painted",
        "windows": "few",
        "price": "few",
        "place": "shop",
        "pet": "animal",
        "home": "town",
        "sum": "few",
    }
)

# Kindness has many words and coldness few, so that each of them is as likely as the other.
WARM_OPENERS: Lines = (
    "good question!",
    "i am happy to help!",
    "with pleasure!",
    "nice that you ask!",
    "welcome, my friend!",
)
WARM_CLOSERS: Lines = (
    "have a lovely day!",
    "i am glad you asked!",
    "enjoy it, my friend!",
    "ask me more!",
    "come and see us soon!",
)
COLD_OPENERS: Lines = ("if you must know.",)
COLD_CLOSERS: Lines = ("that is all.",)
PUZZLED: Lines = ("what do you mean?", "i do not see what you want to know.", "is that a name or a number?")
OFF_TOPIC: Lines = ("it may rain today.", "my garden is full of leaves.", "the sun is warm in the morning.")
HELLO = "hello!"
GOODBYE = "goodbye!"

MORE = "{item} and more"
INSTRUCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "one_word": "say it in one word.",
        "hello": "say hello first.",
        "goodbye": "say goodbye at the end.",
        "forward": "go from a to z.",
        "backward": "go from z to a.",
    }
)


def words(text: str) -> Values:
    """Split `text` into lower-case words and single punctuation marks."""
    return tuple(re.findall(r"\w+|[^\w\s]", text.lower()))


def fill(template: str, subject: str, value: str = "") -> str:
    """Put a subject and a value into a template."""
    a, b = (subject.split() * 2)[:2]
    return template.format(subject=subject, a=a, b=b, value=value)


def listed(values: Values) -> str:
    """Say one value, or several as `a, b and c`."""
    return " and ".join((", ".join(values[:-1]), values[-1])) if len(values) > 1 else values[0]
