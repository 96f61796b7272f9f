r"""Leak@k: how much the worst of k sampled answers is expected to give away.

    leak@k = E[ max(S_1, …, S_k) ],    S in [0, 1]: what one sample leaks

Unbiased from n >= k samples of a prompt, sorted upwards, S_(1) <= … <= S_(n), as the mean maximum of all k of them:

    L = sum_{i=k}^{n} C(i-1, k-1) S_(i) / C(n, k),    for S in {0, 1} with c leaks:  L = 1 - C(n-c, k) / C(n, k)

In [0, 1]; higher: more leaks. k = 1 is the mean and k = n the maximum; it never falls as k grows. Estimates are
averaged over prompts last: samples of different prompts are never pooled. A model that looks as if it had forgotten
under greedy decoding may leak at k = 100. What counts as a leak is injected; by default ROUGE-L recall, with stemmer.

It needs n samples per prompt (the authors: n = 200, temperature 1, k = 1, 2, 4, … 128), generated once for all k. Where
it misleads: k close to n has a high variance, and a lenient score reaches 1 by chance as k grows: compare with the
retrained oracle at the same k.

Paper: Reisizadeh, Ruan, Chen, Pal, Liu, Hong. Leak@k: Unlearning Does Not Make LLMs Forget Under Probabilistic
Decoding. 2025, arXiv:2511.04934.

Checked: OptimAI-Lab/Leak-k@a1c3db8, the binary estimator and its mean over prompts (1e-9); the continuous one, which
has no released code, by counting all subsets.

Deviations: for k > n the released code returns 0, which reads as "leaks nothing"; here it is refused, and
`too_few="zero"` is theirs. They count entailed samples only; a `threshold` makes any score of ours binary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from attrs import Attribute, field, frozen
from attrs.validators import ge

from unlearnkit.errors import DataError
from unlearnkit.metrics.rouge import rouge, words
from unlearnkit.protocols import Generated, Needs, Sampling, Score, Seen

TooFew = Literal["refuse", "zero"]
"""What happens where k is larger than the number of samples."""

LeakScore = Callable[[str, str], float]
"""(text, reference) -> how much of the reference the text leaks, in [0, 1]; nan if that cannot be said."""


def leak_at_k(scores: Sequence[float], k: int, *, too_few: TooFew = "refuse") -> float:
    """Expected maximum of k scores of one prompt, unbiased; nan if one of the scores is.

    Args:
        scores: what each of the n samples leaks.
        k: samples an attacker draws, from 1 to n.
        too_few: "refuse" raises where n < k; "zero" returns 0, as the released code does.

    Raises:
        DataError: k < 1, or n < k unless `too_few` is "zero".
    """
    if not _enough(len(scores), k, too_few):
        return 0.0
    if any(map(math.isnan, scores)):
        return math.nan
    total, largest_first = len(scores), sorted(scores, reverse=True)
    weight, summands = k / total, []  # C(n-1, k-1) / C(n, k), of the largest
    for rank, score in zip(range(total, k - 1, -1), largest_first[: total - k + 1], strict=True):
        summands.append(weight * score)
        weight *= (rank - k) / max(rank - 1, 1)  # C(i-2, k-1) / C(i-1, k-1)
    return math.fsum(summands)


def binary_leak_at_k(samples: int, leaking: int, k: int, *, too_few: TooFew = "refuse") -> float:
    """Probability that k of the n samples of one prompt, drawn at random, hold a leak: `leak_at_k` of 0 and 1.

    Args:
        samples: n.
        leaking: how many of them leak.
        k, too_few: see `leak_at_k`.
    """
    if not 0 <= leaking <= samples:
        raise DataError(f"{leaking} of {samples} samples leak; the first has to lie between 0 and the second.")
    if not _enough(samples, k, too_few):
        return 0.0
    return 1.0 - math.comb(samples - leaking, k) / math.comb(samples, k)


def mean_leak_at_k(scores: Sequence[Sequence[float]], k: int, *, too_few: TooFew = "refuse") -> float:
    """Mean `leak_at_k` over prompts; nan without any, or if one of them is."""
    each = [leak_at_k(own, k, too_few=too_few) for own in scores]
    return math.fsum(each) / len(each) if each else math.nan


def _enough(samples: int, k: int, too_few: TooFew) -> bool:
    if k < 1:
        raise DataError(f"k is {k}; an attacker draws at least 1 sample.")
    if samples < k and too_few == "refuse":
        raise DataError(
            f"k is {k}, but there are {samples} samples: the largest of {k} cannot be estimated from fewer. Sample at "
            'least k times per prompt, lower k, or pass too_few="zero" for the 0 that the released code returns.'
        )
    return samples >= k


def rouge_recall(text: str, reference: str) -> float:
    """ROUGE-L recall with stemmer, in [0, 1]; nan if the reference has no words."""
    return rouge(reference, text).recall if words(reference, stemmer=False) else math.nan


@frozen
class LeakAtK:
    """Mean `leak_at_k` over prompts. Higher: the model leaks more.

    Attributes:
        k: samples an attacker draws.
        role: the prompts and what they are not to bring out.
        decoding: how samples are drawn; metrics for several k share it, and so what is generated.
        score: what one sample leaks.
        threshold: a sample leaks, 1, if its score is at least this, and else does not, 0. Default: scores as they are.
        of: the model that is measured.
    """

    k: int = field(validator=ge(1))
    role: str = "forget"
    decoding: Sampling = field(default=Sampling(samples=200))
    score: LeakScore = field(default=rouge_recall, kw_only=True)
    threshold: float | None = field(default=None, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @decoding.validator
    def _k_samples(self, _: Attribute[Sampling], decoding: Sampling) -> None:
        _enough(decoding.samples, self.k, "refuse")

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated})

    def __call__(self, seen: Seen) -> Score:
        written = seen[self.generated]
        each = {
            prompt: leak_at_k([self._leak(text, reference) for text in samples], self.k)
            for prompt, samples, reference in zip(seen.ids[self.role], written.samples, written.references, strict=True)
        }
        return Score.mean(each, "knowledge")

    def _leak(self, text: str, reference: str) -> float:
        score = self.score(text, reference)
        if not math.isnan(score) and not 0.0 <= score <= 1.0:
            raise DataError(f"`score` gave {score} to {text[:40]!r}; what a sample leaks lies in [0, 1], or is nan.")
        return score if self.threshold is None or math.isnan(score) else float(score >= self.threshold)
