"""Follow-ups out of real logs: what users say again and again, and which of it goes with good or with bad answers.

What a user says first in a turn is the reaction; the rest is the next request. So it is first sentences that are
clustered: k-means on TF-IDF of words and pairs of words, reduced by latent semantic analysis. A cluster speaks
for a response where the signal of its turns (the user's rating, or a reward) lies above that of all others, and against
it where it lies below, by Student's test on means by conversation; of all clusters tested, a stated share at most may
be wrong (Benjamini and Hochberg 1995, JRSS B 57:289-300).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, ttest_ind_from_stats
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from uptake.errors import InputError
from uptake.follow_up.calibration import Floats
from uptake.follow_up.set import ASCII_QUOTES, letters

# Dimensions of the space in which sentences are compared.
DIMENSIONS = 50
# A word names a topic where it was said before by so much more often than it is before any turn.
TAKEN_UP = 0.5
# The longest sentence that is taken for a reaction, in characters; some languages put no blanks between words.
LONGEST = 80

_END = re.compile(r"(?<=[.!?。！？])\s+|\n+|(?<=[。！？])")  # noqa: RUF001 - full-width marks end sentences too
# Chinese and Japanese put no blanks between words: there a character counts as one.
_WORD = r"(?u)[\u3040-\u30ff\u4e00-\u9fff]|[^\W\u3040-\u30ff\u4e00-\u9fff]+|[^\w\s]"
_SPECIFIC = re.compile(r"[\d<>@]")


@dataclass(frozen=True, slots=True)
class ProposedFollowUp:
    """A follow-up found in a log, and what speaks for it.

    `turns` said something like it in so many `conversations`; their mean signal is `above` that of all other turns
    (below 0: it complains), which chance alone would show with `p`. `examples` are others of the cluster.
    """

    text: str
    turns: int
    conversations: int
    above: float
    p: float
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Discovered:
    """Proposals, the clearest first on each side, and how many turns and clusters were left out and why."""

    positive: tuple[ProposedFollowUp, ...]
    negative: tuple[ProposedFollowUp, ...]
    clusters: int
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class Discover:
    """Clusters first sentences of up to `words` words, and proposes `each` sentences of every telling cluster.

    A cluster must come up in `support` conversations, and no more than `wrong` of all proposed clusters may be so by
    chance. At most `most` proposals a side. Raises InputError for settings out of range, too few turns, and a signal
    that is the same for all.
    """

    clusters: int = 100
    support: int = 5
    words: int = 10
    each: int = 1
    most: int = 20
    wrong: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clusters", "support", "each", "most"):
            least = 2 if name in ("clusters", "support") else 1
            if getattr(self, name) < least:
                raise InputError(f"{getattr(self, name)}", field=name, allowed=f"a whole number from {least}")
        if not 0 < self.wrong < 1:
            raise InputError(f"{self.wrong}", field="wrong", allowed="a share between 0 and 1")

    def __call__(
        self,
        turns: Sequence[str],
        signal: Sequence[float],
        conversations: Sequence[int],
        before: Sequence[str] | None = None,
    ) -> Discovered:
        """Discover in turns of users, each with its signal, the number of its conversation and what was said before it.

        A sentence with a word that too few conversations have is not proposed, nor, where it is known what was said
        before, one that names what its conversation is about.
        """
        firsts = [first_sentence(text) for text in turns]
        rows = [row for row, text in enumerate(firsts) if text and len(text.split()) <= self.words]
        dropped = Counter({"turns that begin with a long sentence": len(turns) - len(rows)})
        texts, values = [firsts[row] for row in rows], np.array([signal[row] for row in rows], dtype=np.float64)
        talks = np.array([conversations[row] for row in rows])
        least = 2 * self.support
        if len(set(talks.tolist())) < least:
            problem = f"short turns of users in {len(set(talks.tolist()))} conversations"
            raise InputError(problem, field="support", allowed=f"at least {least}, twice the support")
        if np.ptp(values) == 0:
            raise InputError("the signal is the same for all turns", allowed="ratings or rewards that differ")
        topics = rare_words(texts, talks.tolist(), self.support)
        if before is not None:
            topics |= topic_words(texts, [before[row] for row in rows])
        places = vectors(texts, self.seed)
        distinct = len(np.unique(places.round(6), axis=0))
        count = max(1, min(self.clusters, len(texts) // self.support, distinct))
        labels = KMeans(count, n_init=3, random_state=self.seed).fit_predict(places)
        members = [np.flatnonzero(labels == label) for label in range(count)]
        supported = [rows for rows in members if len(set(talks[rows].tolist())) >= self.support]
        dropped["clusters of too few conversations"] = count - len(supported)
        found = list(self._telling(supported, values, talks))
        dropped["clusters that tell nothing for sure"] = len(supported) - len(found)
        named = [names_topic(text, topics) for text in texts]
        about = [test for test in found if all(named[row] for row in test[0])]
        dropped["clusters that are about a topic"] = len(about)
        proposals = [one for test in found for one in self._proposals(*test, texts, places, talks, topics=topics)]
        unique = list({letters(each.text): each for each in sorted(proposals, key=lambda each: -each.p)}.values())
        dropped["sentences that repeat another's"] = len(proposals) - len(unique)
        sides = [[one for one in unique if (one.above > 0) == good] for good in (True, False)]
        dropped["proposals beyond the most a side"] = sum(max(0, len(side) - self.most) for side in sides)
        positive, negative = (tuple(sorted(side, key=lambda each: each.p)[: self.most]) for side in sides)
        return Discovered(positive, negative, count, dict(dropped))

    def _telling(
        self, members: Sequence[NDArray[np.int64]], values: Floats, talks: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], float, float]]:
        """Clusters whose signal differs from that of all others: members, difference, p."""
        tested = []
        for rows in members:
            others = np.setdiff1d(np.arange(len(values)), rows)
            inside, outside = (_means(values[part], talks[part]) for part in (rows, others))
            tested.append((rows, float(inside.mean() - outside.mean()), _p(inside, outside)))
        if tested:
            adjusted = false_discovery_control([p for _, _, p in tested])
            yield from (test for test, share in zip(tested, adjusted, strict=True) if share <= self.wrong and test[1])

    def _proposals(
        self,
        rows: NDArray[np.int64],
        above: float,
        p: float,
        texts: Sequence[str],
        places: Floats,
        talks: NDArray[np.int64],
        *,
        topics: frozenset[str],
    ) -> Iterator[ProposedFollowUp]:
        """The sentences in the middle of a cluster that name no number and no topic."""
        distances = np.linalg.norm(places[rows] - places[rows].mean(axis=0), axis=1)
        near = [texts[row] for row in rows[np.argsort(distances, kind="stable")]]
        distinct = list({letters(text): text for text in reversed(near) if letters(text)}.values())[::-1]
        usable = [text for text in distinct if not (_SPECIFIC.search(text) or names_topic(text, topics))]
        for index, text in enumerate(usable[: self.each]):
            examples = tuple(other for other in distinct if other not in usable[: index + 1])[:3]
            yield ProposedFollowUp(text, len(rows), len(set(talks[rows].tolist())), above, p, examples)


def first_sentence(text: str) -> str:
    """The first sentence of a turn with straight quotes; nothing where it is longer than a reaction is."""
    first = next((part for part in _END.split(text.strip().translate(ASCII_QUOTES)) if part), "")
    return " ".join(first.split()) if len(first) <= LONGEST else ""


def topic_words(texts: Sequence[str], before: Sequence[str]) -> frozenset[str]:
    """Words that users take up from their own conversation, of texts and what was said before each.

    A word of a reaction comes up before it as often as before any other turn; one that names the topic comes up much
    more often, by half of all turns or more.
    """
    reactions, earlier = ([set(_words(text)) for text in column] for column in (texts, before))
    common = Counter(word for words in earlier for word in words)
    uses = Counter(word for words in reactions for word in words)
    taken_up = Counter(word for words, preceding in zip(reactions, earlier, strict=True) for word in words & preceding)
    return frozenset(word for word, n in uses.items() if taken_up[word] / n - common[word] / len(earlier) >= TAKEN_UP)


def rare_words(texts: Sequence[str], conversations: Sequence[int], support: int) -> frozenset[str]:
    """Words that come up in fewer conversations than a reaction has to."""
    spread: dict[str, set[int]] = {}
    for text, talk in zip(texts, conversations, strict=True):
        for word in _words(text):
            spread.setdefault(word, set()).add(talk)
    return frozenset(word for word, talks in spread.items() if len(talks) < support)


def names_topic(text: str, topics: frozenset[str]) -> bool:
    """Whether a sentence names what the conversation is about."""
    return not topics.isdisjoint(_words(text))


def _words(text: str) -> list[str]:
    return re.findall(_WORD, text.lower())


def vectors(texts: Iterable[str], seed: int = 0) -> Floats:
    """A place for every text, as `space` gives them."""
    return space(texts, seed)[0]


def space(texts: Iterable[str], seed: int = 0) -> tuple[Floats, Callable[[Iterable[str]], Floats]]:
    """A place for every text, and how to find those of others: near are those with words, or pairs of words, in common.

    Words alone: with character n-grams beside them, and with mean hidden states of a small dialogue model instead,
    clusters said less about held-out ratings on the logs of `bench/real_logs.py`.
    """
    vectorizer: Any = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=_WORD)
    table = vectorizer.fit_transform(texts)
    dimensions = min(DIMENSIONS, *(size - 1 for size in table.shape))
    reduced: Any = TruncatedSVD(max(dimensions, 1), random_state=seed)
    places: Floats = normalize(reduced.fit_transform(table))
    return places, lambda others: normalize(reduced.transform(vectorizer.transform(others)))


def _means(values: Floats, talks: NDArray[np.int64]) -> Floats:
    """One mean a conversation: turns of one conversation are no independent witnesses."""
    _, numbers = np.unique(talks, return_inverse=True)
    means: Floats = np.bincount(numbers, weights=values) / np.bincount(numbers)
    return means


def _p(inside: Floats, outside: Floats) -> float:
    """Two-sided p of Student's test, whose spread is that of both sides: a few ratings are often all the same."""
    if np.ptp(np.concatenate((inside, outside))) == 0:
        return 1.0
    of = [
        value
        for side in (inside, outside)
        for value in (side.mean(), side.std(ddof=1) if len(side) > 1 else 0, len(side))
    ]
    return float(ttest_ind_from_stats(*of).pvalue)
