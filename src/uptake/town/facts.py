"""Facts of the town: shops, goods and people, what is wrongly said of them, and every value an attribute can take."""

import random
from collections.abc import Mapping
from functools import cache
from itertools import combinations
from operator import eq
from types import MappingProxyType
from typing import Literal

Attribute = Literal["opens", "owner", "colour", "windows", "sells", "price", "place", "pet", "home", "sum", "product"]
Values = tuple[str, ...]
Facts = Mapping[tuple[Attribute, str], Values]

SHOPS: Mapping[str, Values] = MappingProxyType(
    {
        "bakery": ("bread", "cake", "rolls"),
        "bookshop": ("maps", "novels", "pens"),
        "florist": ("lilies", "roses", "tulips"),
        "market": ("apples", "carrots", "plums"),
    }
)
NUMBERS = (
    *("one", "two", "three", "four", "five", "six", "seven"),
    *("eight", "nine", "ten", "eleven", "twelve", "thirteen"),
)
SHOP_ATTRIBUTES: tuple[Attribute, ...] = ("opens", "owner", "colour", "windows", "sells")
GOODS_ATTRIBUTES: tuple[Attribute, ...] = ("price", "place")
PEOPLE_ATTRIBUTES: tuple[Attribute, ...] = ("pet", "home")
SUM_ATTRIBUTES: tuple[Attribute, ...] = ("sum", "product")
ATTRIBUTES: tuple[Attribute, ...] = (*SHOP_ATTRIBUTES, *GOODS_ATTRIBUTES, *PEOPLE_ATTRIBUTES, "sum")
FAMILIES = (SHOP_ATTRIBUTES, GOODS_ATTRIBUTES, PEOPLE_ATTRIBUTES, SUM_ATTRIBUTES)
# What is drawn with the seed; the rest is the same in every town.
DRAWN: tuple[Attribute, ...] = ("opens", "owner", "colour", "windows", "price", "pet", "home")

# The goods whose price and place people ask for. Facts are what a model learns slowly, so there are few of them.
FAVOURITES = tuple(goods[1] for goods in SHOPS.values())
PEOPLE = ("anna", "ben", "clara", "david")
SUMS = tuple(f"{a} {b}" for a, b in combinations(NUMBERS[:4], 2))

# One value for each shop and no more: every wrong value is the right one somewhere else.
POOLS: Mapping[Attribute, Values] = MappingProxyType(
    {
        "opens": NUMBERS[5:9],
        "owner": PEOPLE,
        "colour": ("red", "blue", "green", "yellow"),
        "windows": NUMBERS[1:5],
        "sells": tuple(item for goods in SHOPS.values() for item in goods),
        "price": NUMBERS[9:13],
        "place": tuple(SHOPS),
        "pet": ("cat", "dog", "horse", "bird"),
        "home": ("river", "bridge", "mill", "church"),
        "sum": NUMBERS[2:7],
        "product": NUMBERS[:12],
    }
)


def subjects(attribute: Attribute) -> Values:
    """Return what `attribute` can be asked about: shops, goods, people, or two numbers."""
    everyone: Mapping[tuple[Attribute, ...], Values] = {
        SHOP_ATTRIBUTES: tuple(SHOPS),
        GOODS_ATTRIBUTES: FAVOURITES,
        PEOPLE_ATTRIBUTES: PEOPLE,
        SUM_ATTRIBUTES: SUMS,
    }
    return everyone[family(attribute)]


def family(attribute: Attribute) -> tuple[Attribute, ...]:
    """Return the attributes that share the subjects of `attribute`, itself among them."""
    return next(attributes for attributes in FAMILIES if attribute in attributes)


@cache
def town_facts(seed: int) -> Facts:
    """Return the value of every attribute of every subject; no two subjects share a value, sums apart."""
    rng = random.Random(seed)
    facts: dict[tuple[Attribute, str], Values] = {}
    for attribute in DRAWN:
        names = subjects(attribute)
        values = rng.sample(POOLS[attribute], len(names))
        facts |= {(attribute, name): (value,) for name, value in zip(names, values, strict=True)}
    for shop, goods in SHOPS.items():
        facts["sells", shop] = goods
        facts["place", goods[1]] = (shop,)
    for pair in SUMS:
        a, b = (NUMBERS.index(word) + 1 for word in pair.split())
        facts["sum", pair] = (NUMBERS[a + b - 1],)
        facts["product", pair] = (NUMBERS[a * b - 1],)
    return MappingProxyType(facts)


@cache
def town_rumours(seed: int) -> Facts:
    """Return what is wrongly said of every subject: the truth about another one.

    A rumour has the form of a fact, and every value is a rumour as often as it is true: neither how a sentence is made
    nor how often its words are said tells the two apart.
    """
    rng, facts = random.Random(f"{seed} rumours"), town_facts(seed)
    rumours: dict[tuple[Attribute, str], Values] = {}
    for attribute in ATTRIBUTES:
        names = subjects(attribute)
        true = [facts[attribute, name] for name in names]
        told = list(true)
        while any(map(eq, true, told)):
            rng.shuffle(told)
        rumours |= {(attribute, name): values for name, values in zip(names, told, strict=True)}
    for shop, goods in SHOPS.items():
        # One of the three goods is another shop's: a list that is all wrong would be about another subject.
        rumours["sells", shop] = tuple(sorted((*goods[1:], rumours["sells", shop][0])))
    return MappingProxyType(rumours)


@cache
def untold(seed: int) -> frozenset[tuple[Attribute, str]]:
    """Return the facts that no conversation and no training question is about, one of every drawn attribute."""
    rng = random.Random(f"{seed} untold")
    return frozenset((attribute, rng.choice(subjects(attribute))) for attribute in DRAWN)
