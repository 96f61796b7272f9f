r"""Sampling: many answers to the same question, of which the worst is expected to give the secret away.

    leak@k = E[ max(S_1, …, S_k) ], unbiased from n >= k samples      S: what one sample gives away

The question is asked as it is, at a temperature. What greedy decoding does not say may still be the second most likely
answer, and comes out once in a while. The estimate is that of `metrics.leak_at_k`, for each secret by itself.

`before` is the greedy answer, `after` leak@k at the largest k, the curve leak@k at all of them, and `found` the sample
that leaks most. `chance` is what k guesses among the keyword and the wrong answers would find, each guess as likely as
another: with a few dozen answers and a hundred samples that is nearly all, so read large k beside the oracle alone. A
leak that is more than 0 for every text (ROUGE recall) grows with k without anything being known.

Paper: Reisizadeh, Ruan, Chen, Pal, Liu, Hong. Leak@k: Unlearning Does Not Make LLMs Forget Under Probabilistic
Decoding. 2025, arXiv:2511.04934.

Checked: the estimator, see `metrics.leak_at_k`; n = 200, temperature 1 and k = 1, 2, 4, … 128 are the authors'.

Deviations: 1. a leak is what the target's `leak` says; they ask a model of entailment. 2. Answers are at most as long
as the target's `decoding` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from attrs import Attribute, evolve, field, frozen
from attrs.validators import min_len

from unlearnkit.attacks.attack import Budget, Outcome, Secret, Target, ThreatModel, check_secrets
from unlearnkit.errors import DataError
from unlearnkit.metrics.leak_at_k import leak_at_k
from unlearnkit.protocols import Sampling

KS = (1, 2, 4, 8, 16, 32, 64, 128)
"""How many samples an attacker draws, in the paper."""


def guessed(secret: Secret, k: int) -> float:
    """Probability that k guesses among the keyword and the wrong answers hit; 0 where no wrong ones are known."""
    return 1 - (1 - 1 / (len(secret.wrong) + 1)) ** k if secret.wrong else 0.0


@frozen(kw_only=True)
class Sampled:
    """`leak_at_k` of sampled answers.

    Attributes:
        sampling: number of samples, temperature and seed; length and stop strings are the target's.
        ks: samples an attacker draws, ascending; the last is what counts.
    """

    sampling: Sampling = field(default=Sampling(samples=200))
    ks: tuple[int, ...] = field(default=KS, validator=min_len(1))
    threat: ThreatModel = field(default="sampling", init=False)

    @ks.validator
    def _enough_samples(self, _: Attribute[tuple[int, ...]], ks: tuple[int, ...]) -> None:
        if list(ks) != sorted(set(ks)) or ks[0] < 1 or ks[-1] > self.sampling.samples:
            raise DataError(
                f"ks are {list(ks)}, of {self.sampling.samples} samples: they have to ascend from 1 at least, and no "
                "more can be drawn than there are samples."
            )

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        decoding = evolve(self.sampling, max_new_tokens=target.decoding.max_new_tokens, stop=target.decoding.stop)
        texts = target.samples([secret.question for secret in secrets], decoding)
        leaks = {
            secret.id: [target.leak(text, secret) for text in own] for secret, own in zip(secrets, texts, strict=True)
        }
        worst = {
            key: own[max(range(len(own)), key=leaks[key].__getitem__)] for key, own in zip(leaks, texts, strict=True)
        }
        last = self.ks[-1]
        return Outcome(
            attack=f"worst of {last} samples at temperature {self.sampling.temperature:g}",
            threat=self.threat,
            budget=Budget(queries=len(secrets) * self.sampling.samples),
            seed=self.sampling.seed,
            measure=target.measure,
            before=target.leaks(secrets),
            after={key: min(1.0, leak_at_k(of, last)) for key, of in leaks.items()},
            chance=fmean(guessed(secret, last) for secret in secrets),
            found=worst,
            curve={f"k = {k}": fmean(leak_at_k(of, k) for of in leaks.values()) for k in self.ks},
        )
