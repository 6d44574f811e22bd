"""How sure a mean, a difference or a correlation of scores is.  Arrays in, numbers out.

Systems that score the same mixtures differ by less than the mixtures do, so the spread that matters is the one
within a mixture.  With r[i, j] for example i under condition j,
    r~[i, j] = r[i, j] - mean_j r[i, :] + mean r        (Cousineau 2005)
and the variance of each column is multiplied by J / (J - 1) against its bias (Morey 2008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

# 95 % of a normal distribution lie within this many standard deviations of its mean: of single items, not of means,
# whose intervals are Student's.
Z95 = 1.96
RESAMPLES = 10_000
# Resampled indices per block: 2^22 of them take 32 MiB.
_BLOCK = 1 << 22


class Spread(NamedTuple):
    """One condition: examples, mean, standard deviation, band of 95 % of the examples, interval of the mean."""

    n: int
    mean: float
    sd: float
    band95: float
    ci95_low: float
    ci95_high: float


class Difference(NamedTuple):
    """A mean difference with its 95 % bootstrap interval and the p value of Wilcoxon's signed-rank test."""

    mean: float
    ci95_low: float
    ci95_high: float
    p_wilcoxon: float
    n: int
    groups: int


class Correlation(NamedTuple):
    """Pearson's and Spearman's coefficients over n pairs of finite values; nan where they do not exist."""

    pearson: float
    spearman: float
    n: int


def t95(free: int) -> float:
    """Return how many standard errors a 95 % interval of Student's t reaches to either side of a mean; nan for none."""
    from scipy.special import stdtrit

    return float(stdtrit(free, 0.975)) if free > 0 else math.nan


def spread(values: Sequence[float] | FloatArray) -> Spread:
    """Return mean and dispersion of finite values (n,); nan where n is too small."""
    n, mean, sd = _moments(np.asarray(values, np.float64))
    return _spread(n, mean, sd, n - 1)


def pooled(groups: Sequence[Sequence[float] | FloatArray]) -> Spread:
    """Return the dispersion about each group's own mean, pooled over groups of any sizes; the mean is of all values."""
    arrays = [np.asarray(group, np.float64) for group in groups if len(group)]
    n = sum(map(len, arrays))
    if not n:
        return Spread(0, math.nan, math.nan, math.nan, math.nan, math.nan)
    squares = math.fsum(float(((a - a.mean()) ** 2).sum()) for a in arrays)
    free = n - len(arrays)
    return _spread(n, float(np.concatenate(arrays).mean()), math.sqrt(squares / free) if free else math.nan, free)


def within(scores: FloatArray) -> tuple[list[Spread], Spread]:
    """Return the within-example dispersion of scores (I, J) per condition and pooled over conditions.

    ValueError with fewer than two examples or two conditions, and for scores that are not finite.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or min(scores.shape) < 2 or not np.isfinite(scores).all():
        raise ValueError(f"scores {scores.shape}: expected finite (examples, conditions), at least two of each")
    n, conditions = scores.shape
    normal = scores - scores.mean(1, keepdims=True) + scores.mean()
    variance = normal.var(0, ddof=1) * conditions / (conditions - 1)  # (J,)
    each = [_spread(n, float(m), math.sqrt(v), n - 1) for m, v in zip(scores.mean(0), variance, strict=True)]
    # The mean of the variances is the interaction's mean square, and has its degrees of freedom.
    free = (n - 1) * (conditions - 1)
    return each, _spread(n, float(scores.mean()), math.sqrt(float(variance.mean())), free)


def paired(
    differences: Sequence[float] | FloatArray, groups: Sequence[str], seed: int = 0, resamples: int = RESAMPLES
) -> Difference:
    """Return the mean of differences (n,) with its interval; the members of a group are drawn together.

    The interval is the percentile interval over `resamples` draws of whole groups (Davison & Hinkley 1997, 3.8);
    the p value is that of the group means, which are independent of each other where the members are not.
    """
    values = np.asarray(differences, np.float64)
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if not len(values):
        return Difference(math.nan, math.nan, math.nan, math.nan, 0, 0)
    sums, counts = (np.bincount(member, of).astype(np.float64) for of in (values, None))
    low, high = math.nan, math.nan
    if len(names) > 1:
        low, high = np.percentile(_resampled(sums, counts, seed, resamples), [2.5, 97.5])
    p = signed_rank(sums / counts)
    return Difference(float(values.mean()), float(low), float(high), p, len(values), len(names))


def signed_rank(differences: FloatArray) -> float:
    """Return the two-sided p value of Wilcoxon's signed-rank test, zeros dropped; 1 where all are zero."""
    if not np.any(differences):
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences[differences != 0]).pvalue)


def correlation(x: Sequence[float] | FloatArray, y: Sequence[float] | FloatArray) -> Correlation:
    """Return how x (n,) and y (n,) go together; ties share their mean rank, pairs that are not finite are left out."""
    from scipy.stats import rankdata

    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    use = np.isfinite(a) & np.isfinite(b)
    a, b = a[use], b[use]
    return Correlation(_pearson(a, b), _pearson(rankdata(a), rankdata(b)), len(a))


def _pearson(a: FloatArray, b: FloatArray) -> float:
    if len(a) < 3:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else math.nan


def _resampled(sums: FloatArray, counts: FloatArray, seed: int, resamples: int) -> FloatArray:
    """Return `resamples` means over groups drawn with replacement."""
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // len(sums))
    parts = []
    for start in range(0, resamples, block):
        drawn = random.integers(len(sums), size=(min(block, resamples - start), len(sums)))
        parts.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    return np.concatenate(parts)


def _moments(values: FloatArray) -> tuple[int, float, float]:
    if not len(values):
        return 0, math.nan, math.nan
    return len(values), float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _spread(n: int, mean: float, sd: float, free: int) -> Spread:
    half = t95(free) * sd / math.sqrt(n) if n else math.nan
    return Spread(n, mean, sd, Z95 * sd, mean - half, mean + half)
