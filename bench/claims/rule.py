"""The rule by which a claim is judged: the interval of a paired difference, and Holm's correction for many claims.

Both sides are measured with the same seeds on the same questions. Seeds and questions are samples, so both count: the
variance of the mean difference is that of the seeds' means plus that of the questions' means, each over their number,
and Student's t has the degrees of freedom of Welch and Satterthwaite. Where questions do not matter this is the paired
t-test over seeds, where seeds do not, that over questions. What is left beside both counts twice, so the interval is
rather too wide. Where nothing varies, one question more might have: the error is one over their number. A bootstrap is
not taken: from five seeds it draws intervals that are a third too narrow.
Sources: Welch (1947), Biometrika 34:28-35; Satterthwaite (1946), Biometrics Bulletin 2:110-114; Holm (1979),
Scandinavian Journal of Statistics 6:65-70; Owen (2007), Annals of Applied Statistics 1:386-411.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.stats import t as student

# Values of one seed by question.
Values = Mapping[str, float]

# The share of tables without a difference anywhere that may have a verdict.
ERROR = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference of two sides: its mean, the standard error of that, and degrees of freedom."""

    mean: float
    error: float
    freedom: float

    def interval(self, level: float) -> tuple[float, float]:
        """The interval that leaves out a share `level`: 0.05 is the one of 95 %."""
        half = float(student.ppf(1 - level / 2, self.freedom)) * self.error
        return self.mean - half, self.mean + half

    def p(self, margin: float = 0.0) -> float:
        """The two-sided p-value of a true difference of `margin`."""
        return 2 * float(student.sf(abs(self.mean - margin) / self.error, self.freedom))


def difference(ours: Sequence[Values], theirs: Sequence[Values] | float) -> Difference:
    """Difference of paired values, seed by seed and question by question, or of one side and a number.

    Raises ValueError for fewer than two seeds, and for seeds or sides that were not asked the same questions.
    """
    others = [dict.fromkeys(values, theirs) for values in ours] if isinstance(theirs, float) else theirs
    if len(ours) < 2 or len(ours) != len(others):
        raise ValueError(f"{len(ours)} seeds against {len(others)}; as many of both are wanted, two at least")
    questions = sorted(ours[0])
    if any(sorted(values) != questions for values in (*ours, *others)):
        raise ValueError("the questions are not the same")
    table = np.array([[a[name] - b[name] for name in questions] for a, b in zip(ours, others, strict=True)])
    parts = [_variance(table.mean(axis=1)), _variance(table.mean(axis=0))]
    total = sum(variance for variance, _ in parts)
    if not total:
        return Difference(float(table.mean()), 1 / len(questions), max(1, len(questions) - 1))
    used = sum(variance**2 / freedom for variance, freedom in parts)
    return Difference(float(table.mean()), sqrt(total), total**2 / used)


def _variance(means: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, int]:
    """The variance of the mean of some means, and its degrees of freedom; a single one has no variance."""
    if len(means) == 1 or np.ptp(means) == 0:
        return 0.0, max(1, len(means) - 1)
    return float(means.var(ddof=1)) / len(means), len(means) - 1


def holm(p_values: Sequence[float | None], error: float = ERROR) -> list[float]:
    """The level at which each of some tests is made, so that a table errs in a share `error` of cases at most.

    The smallest p-value is held to `error / m`, the next to `error / (m - 1)` and so on; from the first that is above
    its level, all are held to that one. A test rejects where its p-value is not above its level. None is a test that
    could not be made: it counts among the m and comes last.
    """
    order = sorted(range(len(p_values)), key=lambda index: _last(p_values[index]))
    levels, level = [0.0] * len(p_values), 0.0
    failed = False
    for rank, index in enumerate(order):
        level = level if failed else error / (len(order) - rank)
        failed = _last(p_values[index]) > level
        levels[index] = level
    return levels


def _last(p: float | None) -> float:
    return 2.0 if p is None else p
