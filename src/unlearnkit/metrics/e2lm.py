r"""E2LM: is a benchmark informative early in training? Signal quality, ranking consistency, and compliance.

    score = 0.5 SQ + 0.1 RC + 0.4 CS
    SQ = (rho + ac) / 2            of a benchmark's scores a_1 … a_n at successive checkpoints
         rho = max(0, 1 - 6 sum_i d_i² / (n (n² - 1)))     d: rank of a_i minus i, equal scores ranked in order
         ac  = mean over lags 1 … n/4 - 1 of |Pearson(a[lag:], a[:-lag])|
    RC = (tau + 1) / 2             Kendall's tau of models ranked early and ranked after full training
    CS = scaled lead of the model trained on the domain over the one trained on web text alone

All in [0, 1], higher is better. A benchmark of forgetting can be judged the same way: checkpoints of a relearning run
in place of those of pre-training.

Failure modes: a constant series ranks as rising (rho = 1, SQ = 1/2), and a steady fall scores 1/2, since ac knows no
sign. Fewer than 8 checkpoints leave no lag: ac is 0.

Paper: Yagoubi et al. NeurIPS 2025 E2LM Competition: Early Training Evaluation of Language Models. 2025,
arXiv:2506.07731. Weights are those of its announcement.

Checked: the starter kit's scoring notebook as copied in tatami-galaxy/e2lm-cruise@f351d1c (SQ and tokens seen, 1e-9).
RC and CS have no released code: that they rank and compare is theirs, the formulas here are our reading.

Deviations: where the notebook gives nan (fewer than 8 checkpoints, a constant stretch), the correlation is 0 here. It
ranks by numpy's default sort, which puts equal scores in an order that depends on the machine (`stable=False`); here they keep
their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from unlearnkit.errors import DataError


class SignalQuality(NamedTuple):
    """How clearly a benchmark's scores rise over training, each in [0, 1].

    Attributes:
        monotonicity: rank correlation with time; 0 if it falls.
        autocorrelation: mean absolute correlation of the series with itself, shifted.
        quality: the mean of the two.
    """

    monotonicity: float
    autocorrelation: float
    quality: float


def signal_quality(scores: Sequence[float], *, stable: bool = True) -> SignalQuality:
    """SQ of a benchmark from its scores at successive checkpoints, oldest first.

    Args:
        scores: one per checkpoint.
        stable: whether equal scores are ranked in order, or as numpy's default sort leaves them on this machine.

    Raises:
        DataError: fewer than two scores, or one that is not finite.
    """
    if len(scores) < 2 or not all(map(math.isfinite, scores)):
        raise DataError(f"signal quality needs at least two finite scores, oldest first; got {list(scores)}.")
    series = np.array(scores, dtype=np.float64)
    n = len(series)
    ranks = np.argsort(np.argsort(series, kind="stable" if stable else None))
    squared = float(np.square(ranks - np.arange(n)).sum())
    monotonicity = max(0.0, 1 - 6 * squared / (n * (n**2 - 1)))
    lags = [abs(_pearson(series[lag:], series[:-lag])) for lag in range(1, n // 4)]
    autocorrelation = math.fsum(lags) / len(lags) if lags else 0.0
    return SignalQuality(monotonicity, autocorrelation, (monotonicity + autocorrelation) / 2)


def ranking_consistency(early: Sequence[float], final: Sequence[float]) -> float:
    """RC: Kendall's tau-b of the same models' scores early and late in training, mapped to [0, 1].

    1/2: unrelated, or one of the two calls all models equal.

    Raises:
        DataError: other than equally many finite scores, at least two.
    """
    if len(early) != len(final) or len(early) < 2 or not all(map(math.isfinite, (*early, *final))):
        raise DataError(
            f"ranking consistency compares the same models, at least two, early and late: got {len(early)} and "
            f"{len(final)} scores, all of which have to be finite."
        )
    if min(early) == max(early) or min(final) == max(final):
        return 0.5
    tau = float(stats.kendalltau(early, final).statistic)
    return min(max((tau + 1) / 2, 0.0), 1.0)


def compliance(in_domain: float, web_only: float, *, chance: float = 0.0, best: float = 1.0) -> float:
    """CS: lead of the model trained on the domain, as a share of what the other leaves; 0 if it does not lead.

    Args:
        in_domain: score of the model trained on domain data.
        web_only: score of the model trained on web text alone.
        chance, best: the scores of guessing and of a perfect model; a score below chance counts as chance.

    Raises:
        DataError: `chance` is not below `best`, or a score is above `best` or not a number.
    """
    if not chance < best or not max(in_domain, web_only) <= best or math.isnan(in_domain + web_only):
        raise DataError(
            f"compliance needs chance < best and scores up to best: got in_domain {in_domain}, web_only {web_only}, "
            f"chance {chance}, best {best}."
        )
    base = max(web_only, chance)
    return 0.0 if base >= best else max(in_domain - base, 0.0) / (best - base)


def e2lm_score(signal: float, ranking: float, compliance: float) -> float:
    """The competition's score from SQ, RC and CS, each in [0, 1]: half, a tenth and two fifths of it.

    Raises:
        DataError: one of them is not between 0 and 1.
    """
    for name, value in (("signal", signal), ("ranking", ranking), ("compliance", compliance)):
        if not -1e-9 <= value <= 1 + 1e-9:
            raise DataError(f"{name} is {value}; it is a share between 0 and 1.")
    return 0.5 * signal + 0.1 * ranking + 0.4 * compliance


def gigatokens(
    iteration: int,
    *,
    batch_size: int = 1024,
    sequence_length: int = 4096,
    ramp_start: int = 256,
    ramp_step: int = 256,
    ramp_samples: int = 4_882_812,
) -> float:
    """Training tokens up to an iteration, in 10⁹: the time axis on which checkpoints of the competition are compared.

    The batch grows from `ramp_start` sequences by `ramp_step` until it has `batch_size`, after equal numbers of
    sequences that add up to `ramp_samples`.

    Raises:
        DataError: a negative iteration, or a batch size that the steps do not reach.
    """
    steps, rest = divmod(batch_size - ramp_start, ramp_step)
    if iteration < 0 or rest or steps < 0:
        raise DataError(
            f"iteration {iteration} has to be at least 0, and batch_size {batch_size} has to be ramp_start "
            f"{ramp_start} plus a multiple of ramp_step {ramp_step}."
        )
    left, samples = float(iteration), 0.0
    for size in range(ramp_start, batch_size, ramp_step):
        here = min(left, ramp_samples / steps / size)
        left, samples = left - here, samples + here * size
    return (samples + left * batch_size) * sequence_length / 1e9


def _pearson(
    first: np.ndarray[tuple[int], np.dtype[np.float64]], second: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> float:
    """Correlation; 0 if either side is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    one, other = first - first.mean(), second - second.mean()
    scale = math.sqrt(float(one @ one) * float(other @ other))
    return min(max(float(one @ other) / scale, -1.0), 1.0) if scale > 0 else 0.0
