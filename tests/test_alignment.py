"""Alignments and token labels: rows by hand, and what holds for all sequences."""

import tracemalloc
from itertools import groupby, pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.ops.alignment import Alignment, align
from uptake.ops.token_labels import base_rate, token_labels

# One letter per token, $ ends the turn: (response, edit, ops, labels, labels of the edit, q, labels without anchor).
GOLDEN = [
    ("abc$", "abc$", "UUUU", "0 0 0 0", "0 0 0 0", 0, None),
    ("abc$", "aXc$", "USUU", "0 -1 0 0", "0 1 0 0", 1 / 7, None),
    ("abXc$", "abc$", "UUDUU", "0 0 -1 0 0", "0 0 0 0", 0, None),
    ("ac$", "abc$", "UAUU", "0 -1 0", "0 1 0 0", 1 / 7, "0 0 0"),
    ("ab$", "abc$", "UUAU", "0 0 -1", "0 0 1 0", 1 / 7, "0 0 0"),
    ("ab$", "$", "DDU", "-1 -1 0", "0", 0, None),
    ("abc$", "xyz$", "SSSU", "-1 -1 -1 0", "1 1 1 0", 0.6, None),
    ("avvb$", "avb$", "UDUUU", "0 -1 0 0 0", "0 0 0 0", 0, None),
    ("avb$", "avvb$", "UAUUU", "0 -1 0 0", "0 1 0 0 0", 1 / 9, "0 0 0 0"),
    ("ab$", "ba$", "SSU", "-1 -1 0", "1 1 0", 0.5, None),
    ("a1b$", "a98b$", "UASUU", "0 -1 0 0", "0 1 1 0 0", 1 / 4, None),
    ("a12b$", "a9b$", "UDSUU", "0 -1 -1 0 0", "0 1 0 0", 1 / 7, None),
    ("a$", "bac$", "AUAU", "-1 -1", "1 0 1 0", 1 / 3, "0 0"),
    ("ab$", "ab", "UUD", "0 0 -1", "0 0", 0, None),
    ("ab", "ab$", "UUA", "0 0", "0 0 1", 1 / 5, None),
]
TEXTS = st.text("abc", max_size=9)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row[0]}-{row[1]}")
def test_golden_rows(row: tuple[str, str, str, str, str, float, str | None]) -> None:
    old, new, ops, one, other, rate, plain = row
    alignment = align(old, new)
    assert alignment.ops == ops
    labels = token_labels(alignment)
    assert labels.old == tuple(map(float, one.split()))
    assert labels.new == tuple(map(float, other.split()))
    assert labels.anchor_lost == (old == "ab")
    assert rate_of(alignment) == pytest.approx(rate)
    assert token_labels(alignment, anchor=False).old == tuple(map(float, (plain or one).split()))


def rate_of(*alignments: Alignment) -> float:
    ops = "".join(each.ops for each in alignments)
    return base_rate(sum(map(ops.count, "SA")), ops.count("U"), sum(map(ops.count, "USA")))


def every_alignment(old: str, new: str) -> list[str]:
    """All operations that turn one text into the other, by plain enumeration."""
    if not old and not new:
        return [""]
    found = []
    if old and new:
        found += [ops + ("U" if old[-1] == new[-1] else "S") for ops in every_alignment(old[:-1], new[:-1])]
    if old:
        found += [ops + "D" for ops in every_alignment(old[:-1], new)]
    if new:
        found += [ops + "A" for ops in every_alignment(old, new[:-1])]
    return found


@given(st.text("ab", max_size=5), st.text("abc", max_size=5))
def test_the_choice_among_all_alignments(old: str, new: str) -> None:
    """The least distance, and of its alignments the first from the right end in the order U, S, D, A."""
    every = every_alignment(old, new)
    least = min(len(ops) - ops.count("U") for ops in every)
    best = [ops for ops in every if len(ops) - ops.count("U") == least]
    chosen = min(best, key=lambda ops: ["USDA".index(op) for op in reversed(ops)])
    assert align(old, new) == Alignment(chosen, least, len(best) > 1)
    runs = {ops: changes(ops) for ops in best}
    fewest = [ops for ops in best if runs[ops] == min(runs.values())]
    together = min(fewest, key=lambda ops: ["USDA".index(op) for op in reversed(ops)])
    assert align(old, new, affine_gap=True) == Alignment(together, least, len(fewest) > 1)
    forward = {"from_start": True, "affine_gap": False}, {"from_start": True, "affine_gap": True}
    for options, among in zip(forward, (best, fewest), strict=True):
        late = min(among, key=lambda ops: ["USDA".index(op) for op in ops])
        assert align(old, new, **options) == Alignment(late, least, len(among) > 1)


def plain_alignment(old: str, new: str) -> str:
    """The table of least distances, and from its last corner the first best step in the order U, S, D, A."""
    table = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i, j in product(range(len(old) + 1), range(len(new) + 1)):
        if not i or not j:
            table[i][j] = i + j
        else:
            least = 1 + min(table[i - 1][j - 1], table[i - 1][j], table[i][j - 1])
            table[i][j] = table[i - 1][j - 1] if old[i - 1] == new[j - 1] else least
    i, j, ops = len(old), len(new), ""
    while i or j:
        if i and j and old[i - 1] == new[j - 1]:
            op, i, j = "U", i - 1, j - 1
        elif i and j and table[i][j] == table[i - 1][j - 1] + 1:
            op, i, j = "S", i - 1, j - 1
        elif i and table[i][j] == table[i - 1][j] + 1:
            op, i = "D", i - 1
        else:
            op, j = "A", j - 1
        ops = op + ops
    return ops


def test_every_pair_of_short_strings() -> None:
    """All texts of up to four letters of three; of those that differ by the names of letters only, one."""
    texts = ["".join(letters) for size in range(5) for letters in product("abc", repeat=size)]
    pairs = [pair for pair in product(texts, texts) if "abc".startswith("".join(dict.fromkeys("".join(pair))))]
    assert len(pairs) > 2000
    for old, new in pairs:
        assert align(old, new).ops == plain_alignment(old, new), (old, new)


def changes(ops: str) -> int:
    return sum(changed for changed, _ in groupby(op != "U" for op in ops))


def test_repeated_tokens_apart_or_together() -> None:
    assert align("abxbcd", "abcd").ops == "UDDUUU"
    assert align("xaxa", "x").ops == "DDUD"
    assert align("xaxa", "x", affine_gap=True).ops == "UDDD"


def test_from_the_start_a_fault_stands_where_it_first_shows() -> None:
    """What is missing is missed at the end of the turn, and of two equal tokens the second is too many."""
    added, removed = (align(old, new, from_start=True) for old, new in (("ab!$", "ab!c!$"), ("avvb$", "avb$")))
    assert added.ops == "UUUAAU"
    assert token_labels(added).old == (0, 0, 0, -1)
    assert removed.ops == "UUDUU"
    assert token_labels(align("ab!$", "ab!c!$")).old == (0, 0, -1, 0)


@given(TEXTS, TEXTS)
def test_properties(old: str, new: str) -> None:
    alignment = align(old, new)
    assert (len(alignment.old), len(alignment.new)) == (len(old), len(new))
    for op in "US":
        assert alignment.old.count(op) == alignment.new.count(op)
    kept = [
        "".join(item for item, op in zip(text, ops, strict=True) if op == "U")
        for text, ops in ((old, alignment.old), (new, alignment.new))
    ]
    assert kept[0] == kept[1]
    assert alignment.distance == sum(map(alignment.ops.count, "SDA")) == levenshtein(old, new)
    renamed = align([ord(each) * 7 for each in old], [ord(each) * 7 for each in new])
    assert renamed == alignment
    labels, plain = token_labels(alignment), token_labels(alignment, anchor=False)
    assert labels.new == plain.new
    alone = ["".join(run) for changed, run in groupby(alignment.ops, lambda op: op != "U") if changed]
    if not any(set(run) == {"A"} for run in alone):
        assert labels == plain
    else:
        added = sum(one != other for one, other in zip(labels.old, plain.old, strict=True))
        assert added + labels.anchor_lost == sum(set(run) == {"A"} for run in alone)


def levenshtein(old: str, new: str) -> int:
    row = list(range(len(new) + 1))
    for number, letter in enumerate(old, 1):
        before, row = row, [number]
        for column, (two, wanted) in enumerate(zip(pairwise(before), new, strict=True)):
            row.append(min(two[0] + (letter != wanted), two[1] + 1, row[column] + 1))
    return row[-1]


def test_the_base_rate_is_of_all_rows_together() -> None:
    assert rate_of(align("abc$", "aXc$"), align("ab", "ab")) == pytest.approx(1 / (7 + 4))
    assert rate_of() == 0


def test_long_sequences_need_some_bits_a_pair() -> None:
    """Where none of 5,000 elements is kept, and where all but every tenth are; a table of integers has 200 MB."""
    old = list(range(5000))
    tracemalloc.start()
    assert align(old, [-1 - item for item in old]).ops == "S" * 5000
    changed = [-1 if item % 10 == 3 else item for item in old]
    assert align(old, changed).ops == "UUUSUUUUUU" * 500
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_from_the_start_changes_come_as_late_as_they_can() -> None:
    pairs = (("ab", "b"), ("aa", "a"), ("abc", "d"), ("a", "ba"), ("ab", "ba"), ("", ""))
    found = [align(old, new, from_start=True).ops for old, new in pairs]
    assert found == ["DU", "UD", "SDD", "AU", "SS", ""]
