"""Facts of the town: shops and goods, and every value an attribute can take."""

import random
from collections.abc import Mapping
from functools import cache
from itertools import combinations
from types import MappingProxyType
from typing import Literal

Attribute = Literal["opens", "owner", "colour", "windows", "sells", "price", "place", "sum", "product"]
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
SUM_ATTRIBUTES: tuple[Attribute, ...] = ("sum", "product")
ATTRIBUTES: tuple[Attribute, ...] = (*SHOP_ATTRIBUTES, *GOODS_ATTRIBUTES, "sum")
FAMILIES = (SHOP_ATTRIBUTES, GOODS_ATTRIBUTES, SUM_ATTRIBUTES)

# The goods whose price and place people ask for. Facts are what a model learns slowly, so there are few of them.
FAVOURITES = tuple(goods[1] for goods in SHOPS.values())
SUMS = tuple(f"{a} {b}" for a, b in combinations(NUMBERS[:4], 2))

# One value for each shop and no more: every wrong value is the right one somewhere else.
POOLS: Mapping[Attribute, Values] = MappingProxyType(
    {
        "opens": NUMBERS[5:9],
        "owner": ("anna", "ben", "clara", "david"),
        "colour": ("red", "blue", "green", "yellow"),
        "windows": NUMBERS[1:5],
        "sells": tuple(item for goods in SHOPS.values() for item in goods),
        "price": NUMBERS[9:13],
        "place": tuple(SHOPS),
        "sum": NUMBERS[2:7],
        "product": NUMBERS[:12],
    }
)


def subjects(attribute: Attribute) -> Values:
    """Return what `attribute` can be asked about: shops, goods, or two numbers."""
    if attribute in SHOP_ATTRIBUTES:
        return tuple(SHOPS)
    return FAVOURITES if attribute in GOODS_ATTRIBUTES else SUMS


def family(attribute: Attribute) -> tuple[Attribute, ...]:
    """Return the attributes that share the subjects of `attribute`, itself among them."""
    return next(attributes for attributes in FAMILIES if attribute in attributes)


@cache
def town_facts(seed: int) -> Facts:
    """Return the value of every attribute of every subject; no two subjects share a value, sums apart."""
    rng = random.Random(seed)
    facts: dict[tuple[Attribute, str], Values] = {}
    drawn: tuple[Attribute, ...] = ("opens", "owner", "colour", "windows", "price")
    for attribute in drawn:
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
