r"""Representation similarity: did the hidden states move to those of the oracle, or do they stay what they were?

    CKA(X, Y) = <HKH, HLH> / sqrt(<HKH, HKH> <HLH, HLH>),    K, L [n, n]: similarities of the rows of X and of Y
    linear: K = X X^T; the same number is |Y^T X|^2 / (|X^T X| |Y^T Y|), columns centred
    RBF:    K = exp(-d^2 / (2 sigma^2)),  sigma^2: median of the squared distances that are not 0
    erasure_l = clip((CKA_l(model, oracle) - c_l) / (1 - c_l), 0, 1),  c_l = CKA_l(original, oracle)
    erasure score = sum_l (1 - c_l) erasure_l / sum_l (1 - c_l)

Rows are tokens (or examples), columns features. All lie in [0, 1]. On forget data a model that never knew them is close
to the oracle at every layer and no closer to the original than the oracle is; a changed head over an unchanged body
leaves CKA at 1. Needs hidden states of the model and of the original, of the oracle, or of both, on the same tokens.

Blind to rotations and isotropic scale: CKA of 1 is no equality. Biased upwards when rows are few: two independent
matrices of 50 rows and 8 columns give about 0.12, and with fewer rows than columns CKA comes close to 1 whatever they
hold. A layer where original and oracle agree has nothing to erase and no weight.

Papers: CKA: Kornblith, Norouzi, Lee, Hinton. Similarity of Neural Network Representations Revisited. ICML 2019,
arXiv:1905.00414. For unlearning: Kim, Cha, Kim. Are We Truly Forgetting? A Critical Re-examination of Machine
Unlearning Evaluation Protocols. EAAI 2026, arXiv:2503.06991. The erasure score is defined by released code only.

Checked: yongwookim1/UUEF@3e65d87 (linear, RBF, float64, to 1e-9); gnueaj/unlearning-depth-score@fc31639 (linear, to
1e-9; erasure score, which runs in float32, to 1e-5).

Deviations: UUEF averages CKA over consecutive mini-batches of 512 rows, a short last one with full weight: `batch=512`;
ours is of all rows. Against a constant side its form returns rounding noise and the other repository's returns 0, and
so do our functions; the metrics call such a layer "not measured", since 0 reads as "nothing in common". What is
constant is judged relative to its size (1e-10), not by an absolute 1e-8, so that scale changes nothing. UUEF takes the
mean of the middle two as the median in numpy and the lower one in torch: `median="lower"`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from attrs import field, frozen
from attrs.validators import in_, min_len
from torch import Tensor

from unlearnkit.errors import DataError
from unlearnkit.protocols import POSITIONS, Captured, Direction, Needs, Positions, Score, Seen, Site


def linear_cka(first: Tensor, second: Tensor, *, batch: int | None = None) -> Tensor:
    """Linear CKA of two views of the same rows: [n, d], [n, e] -> scalar float64, in [0, 1].

    Takes the smaller of two equal forms: [d, e] products of features, or [n, n] products of rows.

    Args:
        first, second: one row per token or example, in the same order.
        batch: mean over consecutive chunks of so many rows, a short last one counting as much. Default: all at once.

    0 where a side is constant over rows (its centred size is below 1e-10 of its size): there is nothing to compare.
    """
    if batch is not None:
        pairs = zip(first.split(batch), second.split(batch), strict=True)
        return torch.stack([linear_cka(one, other) for one, other in pairs]).mean()
    one, other = centred(first), centred(second)
    if len(one) < min(one.shape[1], other.shape[1]):
        return gram_cka(one @ one.T, other @ other.T)
    cross = (other.T @ one).square().sum()
    size = torch.linalg.matrix_norm(one.T @ one) * torch.linalg.matrix_norm(other.T @ other)
    return torch.where(size == 0, 0.0, cross / torch.where(size == 0, 1.0, size)).clamp(max=1.0)


def centred(features: Tensor) -> Tensor:
    """Columns minus their means, all divided by one number so that the squares add up to 1: [n, d] -> [n, d] float64.

    All 0 where the columns are constant up to 1e-10 of their size.
    """
    values = features.double()
    values = values / values.abs().amax().clamp(min=1e-300)  # squares of large numbers overflow
    moved = values - values.mean(0)
    size = torch.linalg.matrix_norm(moved)
    varies = size > 1e-10 * torch.linalg.matrix_norm(values)
    return torch.where(varies | size.isnan(), moved / torch.where(varies, size, 1.0), 0.0)


def gram_cka(first: Tensor, second: Tensor) -> Tensor:
    """CKA of two matrices of similarities between the same rows: [n, n], [n, n] -> scalar float64, in [0, 1].

    Args:
        first, second: symmetric and positive semi-definite; they are centred here. 0 where one is constant.
    """

    def doubly_centred(gram: Tensor) -> Tensor:
        values = gram.double() / gram.double().abs().amax().clamp(min=1e-300)  # squares of large numbers overflow
        moved = values - values.mean(0) - values.mean(1, keepdim=True) + values.mean()
        size = torch.linalg.matrix_norm(moved)
        varies = size > 1e-10 * torch.linalg.matrix_norm(values)
        return torch.where(varies | size.isnan(), moved / torch.where(varies, size, 1.0), 0.0)

    return (doubly_centred(first) * doubly_centred(second)).sum().clamp(0.0, 1.0)


def rbf_gram(features: Tensor, *, sigma: float | None = None, median: Literal["middle", "lower"] = "middle") -> Tensor:
    """Gaussian similarities of all pairs of rows: [n, d] -> [n, n] float64, in [0, 1].

    Args:
        features: one row per token or example.
        sigma: bandwidth, > 0. Default: the root of the median squared distance, of those that are not 0.
        median: which value is the median of an even number of them.

    All 1 where all rows are equal. Memory and time grow with n^2: pass some hundreds of rows.
    """
    values = features.double()
    squared = torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist").square()
    if sigma is not None:
        return torch.exp(-squared / (2 * sigma**2))
    apart = squared[squared > 0].sort().values
    if not len(apart):
        return torch.exp(-squared)  # 1, or nan
    lower = apart[(len(apart) - 1) // 2]
    middle = lower if median == "lower" else (lower + apart[len(apart) // 2]) / 2
    return torch.exp(-squared / (2 * middle))


def rbf_cka(
    first: Tensor, second: Tensor, *, sigma: float | None = None, median: Literal["middle", "lower"] = "middle"
) -> Tensor:
    """CKA with Gaussian similarities, bandwidths chosen for each side: [n, d], [n, e] -> scalar float64, in [0, 1]."""
    return gram_cka(rbf_gram(first, sigma=sigma, median=median), rbf_gram(second, sigma=sigma, median=median))


def layer_erasure(to_oracle: float, original_to_oracle: float) -> float:
    """How much of the way from the original to the oracle a layer has gone, in [0, 1]; nan if there was none to go.

    Args:
        to_oracle: CKA of the model and the oracle.
        original_to_oracle: CKA of the original and the oracle: 0 erasure there, 1 at a CKA of 1.
    """
    way = 1 - original_to_oracle
    if math.isnan(to_oracle) or not way > _NO_WAY:
        return math.nan
    return min(max((to_oracle - original_to_oracle) / (way + _NO_WAY), 0.0), 1.0)


_NO_WAY = 1e-8
"""A difference of CKAs that is none."""


def erasure_score(to_oracle: Mapping[str, float], original_to_oracle: Mapping[str, float]) -> float:
    """Mean `layer_erasure`, each layer weighted by 1 - CKA(original, oracle); nan if no layer has any way to go.

    Args:
        to_oracle: CKA of model and oracle by layer.
        original_to_oracle: CKA of original and oracle by layer, the same layers.

    Raises:
        DataError: the layers differ.
    """
    if lacking := sorted(to_oracle.keys() ^ original_to_oracle.keys()):
        raise DataError(
            f"layer {lacking[0]!r} is in one of `to_oracle` and `original_to_oracle` only, and so are "
            f"{len(lacking) - 1} others. Compare the model and the original with the oracle at the same layers."
        )
    erased = {name: layer_erasure(to_oracle[name], original) for name, original in original_to_oracle.items()}
    weights = {name: 1 - original_to_oracle[name] for name, value in erased.items() if not math.isnan(value)}
    if not weights:
        return math.nan
    return math.fsum(weight * erased[name] for name, weight in weights.items()) / math.fsum(weights.values())


def neighbour_votes(gallery: Tensor, gallery_classes: Tensor, queries: Tensor, *, neighbours: int = 5) -> Tensor:
    """Class that most of the nearest gallery rows have, for each query: [g, d], [g], [q, d] -> [q] int64.

    Nearness is cosine similarity, votes count alike, and of classes with as many votes the smallest wins. Compare the
    accuracy of frozen features of a model with that of the oracle's.

    Args:
        gallery: features whose classes are known; at least `neighbours` of them.
        gallery_classes: [g] int64, from 0.
        queries: features that are classified.
        neighbours: how many vote.
    """
    near = (
        torch.nn.functional.normalize(queries.double(), dim=1)
        @ torch.nn.functional.normalize(gallery.double(), dim=1).T
    )
    voters = gallery_classes[near.topk(neighbours, dim=1).indices]
    votes = torch.nn.functional.one_hot(voters, int(gallery_classes.max()) + 1).sum(1)
    return votes.argmax(1)


# --- from what was seen -----------------------------------------------------------------------------------------------


def _constant(features: Tensor) -> bool:
    return len(features) == 0 or not bool(centred(features).any())


def _cka(seen: Seen, first: Captured, second: Captured, batch: int | None) -> float:
    """CKA of two models at a site; nan if one of them says the same everywhere, or nothing."""
    one, other = seen[first], seen[second]
    if not torch.equal(one.row, other.row):
        raise DataError(
            f"{first.of!r} and {second.of!r} have hidden states of {len(one.row)} and {len(other.row)} positions of "
            f"{first.role!r}, or of other rows; CKA compares the same tokens. Give both models the same tokenized rows."
        )
    if _constant(one.values) or _constant(other.values):
        return math.nan
    return float(linear_cka(one.values, other.values, batch=batch))


@frozen
class LinearCKA:
    """Linear CKA between two models at one site. Higher: more alike.

    Attributes:
        site: where both are read.
        role: the data set.
        to: the model that is compared with. Like the original is "knowledge" on forget data; `higher` says so.
        higher: what likeness means: "forgetting" where `to` is an oracle, "utility" on retain data.
        positions: which tokens are rows.
        batch: as in `linear_cka`.
        of: the model that is measured.
    """

    site: Site
    role: str = "forget"
    to: str = field(default="original", kw_only=True)
    higher: Direction = field(default="knowledge", validator=in_(get_args(Direction)), kw_only=True)
    positions: Positions = field(default="non_pad", validator=in_(POSITIONS), kw_only=True)
    batch: int | None = field(default=None, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def model(self) -> Captured:
        return Captured(self.site, self.role, of=self.of, positions=self.positions)

    @property
    def other(self) -> Captured:
        return Captured(self.site, self.role, of=self.to, positions=self.positions)

    @property
    def needs(self) -> Needs:
        return frozenset({self.model, self.other})

    def __call__(self, seen: Seen) -> Score:
        value = _cka(seen, self.model, self.other, self.batch)
        if math.isnan(value):
            return Score.not_measured(
                f"at {self.site}, {self.of!r} or {self.to!r} has no hidden states of {self.role!r}, the same ones "
                "everywhere, or some that are not finite",
                self.higher,
            )
        return Score(value, self.higher, n=len(seen[self.model].row))


@frozen
class ErasureScore:
    """`erasure_score` over layers: the share of the way from original to oracle. Higher: better forgotten.

    Parts: for each site that was measured, `… to_oracle` and `… original_to_oracle` (CKAs), and `… erasure` where there
    was a way to go. Not measured if no site has one. A site where a model says the same everywhere is in `left_out`.

    Attributes:
        sites: where the models are read; distinct.
        role: the data set.
        original, oracle: the model before unlearning, and the one retrained without the data.
        positions: which tokens are rows.
        of: the model that is measured.
    """

    sites: tuple[Site, ...] = field(validator=min_len(1))
    role: str = "forget"
    original: str = field(default="original", kw_only=True)
    oracle: str = field(default="oracle", kw_only=True)
    positions: Positions = field(default="non_pad", validator=in_(POSITIONS), kw_only=True)
    of: str = field(default="model", kw_only=True)

    def _captured(self, site: Site, of: str) -> Captured:
        return Captured(site, self.role, of=of, positions=self.positions)

    @property
    def needs(self) -> Needs:
        return frozenset(
            self._captured(site, of) for site in self.sites for of in (self.of, self.original, self.oracle)
        )

    def __call__(self, seen: Seen) -> Score:
        to_oracle, original_to_oracle = (
            {
                str(site): _cka(seen, self._captured(site, of), self._captured(site, self.oracle), None)
                for site in self.sites
            }
            for of in (self.of, self.original)
        )
        value = erasure_score(to_oracle, original_to_oracle)
        named = {
            name: {
                "to_oracle": to_oracle[name],
                "original_to_oracle": original_to_oracle[name],
                "erasure": layer_erasure(to_oracle[name], original_to_oracle[name]),
            }
            for name in to_oracle
        }
        parts = {
            f"{name} {kind}": number
            for name, numbers in named.items()
            for kind, number in numbers.items()
            if not math.isnan(number)
        }
        left_out = tuple(name for name in to_oracle if math.isnan(to_oracle[name] + original_to_oracle[name]))
        if math.isnan(value):
            return Score(
                None,
                "forgetting",
                parts=parts,
                left_out=left_out,
                reason=f"at none of {', '.join(to_oracle)} do {self.original!r} and {self.oracle!r} differ on "
                f"{self.role!r} and all three models have hidden states that vary: there is nothing to erase",
            )
        rows = len(seen[self._captured(self.sites[0], self.of)].row)
        return Score(value, "forgetting", n=rows, parts=parts, left_out=left_out)
