r"""WaterDrum: does what the model writes still carry the watermark of the data it was trained on?

Each owner's texts are watermarked before training, with the owner's key. A key and the previous tokens give a
permutation pi of the N tokens of the watermark's vocabulary; a wave over places in it is added to logits while a text
is rewritten, and looked for afterwards:

    phi(i) = kappa * cos(2 pi k i / N)    q = mean over tokens x_j of cos(2 pi k * pi_{key, x_{j-1}}[x_j] / N)

q lies in [-1, 1] and is 0 on average for text without that key, ± O(1/sqrt(tokens)). The metric is the mean q of what
the model writes after each prompt, under the key of the prompt's own owner. Higher: the model still speaks from that
owner's data. After unlearning, owners to be forgotten should fall to the level of the retrained model (about 0), all
others should stay.

It needs training data that was watermarked, the tokenizer that did it (`encode`, usually not the model's own), and 10
samples of 200 tokens per prompt. `separability` (can q tell retained from forgotten owners?) and `calibration` (is q
proportional to the data left?) ask how good it is on retrained models. Short texts give noise; a paraphrased or
translated answer loses the watermark without being forgotten.

Paper: Lu et al. WaterDrum: Watermarking for Data-centric Unlearning Metric. 2025, arXiv:2505.05064. Watermark: Lau et
al. Waterfall. EMNLP 2024, arXiv:2407.04411.

Checked: aoi3142/Waterfall@cb57b70 (permutations and phi exactly or to 1e-9; q to 1e-6, as theirs is complex64);
lululu008/WaterDrum@f3d77e8 (means over generations, calibration, separability, 1e-9).

Deviations:
    1. As released, counting stops at the first token outside the vocabulary, and what follows is not looked at; one
       that is only a context gives the identity for a permutation.
    2. A text without counted tokens has q = 0, and so, as released, has `mean_strength` of nothing but such texts;
       `WaterDrum` counts such a prompt as not measured.
    3. The released R² divides by the variation around the mean although the line is forced through a point: it can be
       negative, and is -inf or nan for constant strengths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from attrs import Attribute, field, frozen
from attrs.validators import ge
from numpy.typing import NDArray
from scipy.fft import rfft

from unlearnkit.errors import DataError
from unlearnkit.metrics.membership import auc
from unlearnkit.protocols import Generated, Needs, Sampling, Score, Seen

# --- the watermark ----------------------------------------------------------------------------------------------------


class Strength(NamedTuple):
    """How strong one key's watermark is in a text.

    Attributes:
        q: mean of the wave over the counted tokens, in [-1, 1]; 0 if there are none.
        tokens: how many were counted.
    """

    q: float
    tokens: int


def permutation(owner: int, context: Sequence[int], vocabulary: int) -> NDArray[np.int64]:
    """Place of each token in the order that a key and the previous tokens give: [N] int64.

    The identity if one of the previous tokens is outside the vocabulary.

    Args:
        owner: the key, from 0 to 2**32 - 1.
        context: the previous tokens.
        vocabulary: N.
    """
    if not 0 <= owner < 2**32:
        raise DataError(f"owner is {owner}; a key is a number from 0 to 2**32 - 1.")
    if any(token >= vocabulary for token in context):
        return np.arange(vocabulary)
    return np.random.RandomState((owner, *context)).permutation(vocabulary).astype(np.int64)


def phi(vocabulary: int, *, k: int = 1, kappa: float = 6.0) -> NDArray[np.float64]:
    """What is added to the logits of the tokens at each place: [N] float64. Token v gets `phi[permutation[v]]`.

    Args:
        vocabulary: N.
        k: which wave: 1 to (N - 1) // 2 are cosines of that frequency, as many sines follow.
        kappa: strength of the watermark.
    """
    cosines = (vocabulary - 1) // 2
    if not 0 < k <= 2 * cosines:
        raise DataError(f"k is {k}, but over {vocabulary} tokens there are only waves 1 to {2 * cosines}.")
    angles = np.arange(vocabulary) / vocabulary * (2 * np.pi)
    return kappa * (np.cos(angles * k) if k <= cosines else np.sin(angles * (k - cosines)))


def watermark_strengths(
    texts: Sequence[Sequence[int]], *, owner: int, vocabulary: int, k: int = 1, n_gram: int = 2
) -> list[Strength]:
    """Strength of one key's watermark in each text.

    Args:
        texts: token ids of the watermark's tokenizer, without special tokens.
        owner: the key.
        vocabulary: N.
        k: which wave; see `phi`.
        n_gram: a token and those before it that the permutation depends on.
    """
    wave = phi(vocabulary, k=k, kappa=1.0)
    found = (wave[own] for own in _places(texts, owner, vocabulary, n_gram))
    return [Strength(math.fsum(own) / max(len(own), 1), len(own)) for own in found]


def wave_ranks(
    texts: Sequence[Sequence[int]], *, owner: int, vocabulary: int, k: int = 1, n_gram: int = 2
) -> list[int]:
    """How many other waves are stronger than wave k in each text: 0 where it stands out, or where nothing is counted.

    Strengths are compared in single precision, as in the released code: waves that differ by less are equal.

    Args:
        texts, owner, vocabulary, k, n_gram: as in `watermark_strengths`.
    """
    phi(vocabulary, k=k)  # refuses a k that is no wave
    ranks = []
    for places in _places(texts, owner, vocabulary, n_gram):
        shares = np.bincount(places, minlength=vocabulary) / max(len(places), 1)
        spectrum = rfft(shares)[1 : (vocabulary - 1) // 2 + 1].astype(np.complex64)
        strengths = np.concatenate((spectrum.real, -spectrum.imag))
        ranks.append(int((strengths > strengths[k - 1]).sum()))
    return ranks


def _places(texts: Sequence[Sequence[int]], owner: int, vocabulary: int, n_gram: int) -> list[NDArray[np.int64]]:
    """Place of each counted token in the order of its context, by text; every permutation is made once."""
    if n_gram < 1:
        raise DataError(f"n_gram is {n_gram}; it counts the token itself and is at least 1.")
    wanted: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for number, tokens in enumerate(texts):
        for end in range(n_gram - 1, len(tokens)):
            if tokens[end] >= vocabulary:
                break
            wanted.setdefault(tuple(tokens[end - n_gram + 1 : end]), []).append((number, tokens[end]))
    found: list[list[int]] = [[] for _ in texts]
    for context, counted in wanted.items():
        order = permutation(owner, context, vocabulary)
        for number, token in counted:
            found[number].append(int(order[token]))
    return [np.array(own, dtype=np.int64) for own in found]


# --- over texts and data sets -----------------------------------------------------------------------------------------


def mean_strength(strengths: Sequence[Strength], *, weighted: bool = True) -> float:
    """Mean q of the generations of one prompt; 0 if no token was counted.

    Args:
        strengths: of each generation.
        weighted: by the number of counted tokens, as released; otherwise every generation that has any counts the same.
    """
    counted = [own for own in strengths if own.tokens]
    weights = [own.tokens if weighted else 1 for own in counted]
    total = sum(weights)
    return math.fsum(weight * own.q for weight, own in zip(weights, counted, strict=True)) / max(total, 1)


def separability(retain: Sequence[float], forget: Sequence[float]) -> float:
    """Probability that a retained text is stronger than a forgotten one, ties half: AUROC, in [0, 1].

    Args:
        retain, forget: strengths of texts that a retrained model wrote for owners it knows, and for those it does not.
    """
    return auc(forget, retain)


class Calibration(NamedTuple):
    """A line through 0 at the point where nothing is left: how well it fits, and how steep it is per percent."""

    r2: float
    slope: float


def calibration(percent_removed: Sequence[float], strengths: Sequence[float]) -> Calibration:
    """Fit strength = slope * (100 - percent removed) by least squares.

    Args:
        percent_removed: share of the forget set that each model was retrained without, from 0 to 100.
        strengths: mean strength of what it writes on the forget set.

    Returns:
        R² is at most 1, negative where the mean fits better, and -inf or nan for constant strengths.
    """
    if len(percent_removed) != len(strengths):
        raise DataError(f"there are {len(percent_removed)} percentages, but {len(strengths)} strengths.")
    left, y = 100.0 - np.asarray(percent_removed, dtype=np.float64), np.asarray(strengths, dtype=np.float64)
    if not left.any():
        raise DataError(
            "percent_removed is 100 everywhere: a slope needs a model that was trained on some of the data."
        )
    slope = np.sum(y * left) / np.sum(left**2)
    with np.errstate(divide="ignore", invalid="ignore"):  # constant strengths
        r2 = 1 - np.sum((y - slope * left) ** 2) / np.sum((y - np.mean(y)) ** 2)
    return Calibration(float(r2), float(slope))


# --- the metric -------------------------------------------------------------------------------------------------------

Encode = Callable[[str], Sequence[int]]
"""Token ids of a text by the watermark's tokenizer, special tokens left out."""


@frozen
class WaterDrum:
    """Mean watermark strength of what a model writes, under each prompt's own key. Higher: the model knows more.

    Attributes:
        owners: key of each prompt's owner, by row id.
        vocabulary: N, the `vocab_size` of the watermark's tokenizer.
        encode: that tokenizer.
        role: the prompts.
        decoding: how the model writes.
        k, n_gram: of the watermark.
        weighted: whether the generations of a prompt count by their tokens; see `mean_strength`.
        of: the model that is measured.
    """

    owners: Mapping[str, int]
    vocabulary: int = field(validator=ge(3))
    encode: Encode
    role: str = "forget"
    decoding: Sampling = field(default=Sampling(samples=10, max_new_tokens=200))
    k: int = field(default=1, validator=ge(1), kw_only=True)
    n_gram: int = field(default=2, validator=ge(1), kw_only=True)
    weighted: bool = field(default=True, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @k.validator
    def _is_a_wave(self, _: Attribute[int], k: int) -> None:
        phi(self.vocabulary, k=k)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated})

    def __call__(self, seen: Seen) -> Score:
        prompts = seen.ids[self.role]
        if absent := [prompt for prompt in prompts if prompt not in self.owners]:
            raise DataError(
                f"owners has no key for {absent[0]!r} of {self.role!r}, nor for {len(absent) - 1} others. Give the key "
                "each example's training text was watermarked with, by row id."
            )
        samples = dict(zip(prompts, seen[self.generated].samples, strict=True))
        by_owner: dict[int, list[str]] = {}
        for prompt in prompts:
            by_owner.setdefault(self.owners[prompt], []).append(prompt)
        each = dict.fromkeys(prompts, math.nan)
        for owner, own in by_owner.items():
            texts = [self.encode(text) for prompt in own for text in samples[prompt]]
            strengths = iter(
                watermark_strengths(texts, owner=owner, vocabulary=self.vocabulary, k=self.k, n_gram=self.n_gram)
            )
            for prompt in own:
                of_prompt = [next(strengths) for _ in samples[prompt]]
                if any(strength.tokens for strength in of_prompt):
                    each[prompt] = mean_strength(of_prompt, weighted=self.weighted)
        return Score.mean(each, "knowledge")
