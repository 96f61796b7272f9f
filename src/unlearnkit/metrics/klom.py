r"""KLoM: do unlearned models, as a distribution, answer each point like models that never saw the forget set?

    margin m = z_y - logsumexp_{c != y} z_c = log p_y / (1 - p_y)        one per model and point
    KLoM(point) = KL(P || Q) = sum_b P_b log(P_b / Q_b)          P: margins of oracles, Q: of unlearned models

P and Q are histograms of margins clipped to [-100, 100], in 20 equal bins from the smallest to the largest of both;
where P has mass, Q counts at least 1e-5, and both add up to 1 afterwards. In nats, from 0 to log(1e5 + 20): 0 if the
unlearned models are distributed like the oracles. Points are images, or gold tokens of a language model; the gold
answer among fixed candidates works too (`label_margins` of their log-probs). The mean and the 95th percentile over
forget, retain and held-out points are reported side by side.

Needs margins of several unlearned models and of several oracles that differ in their seed; 100 of each in the papers.
It is biased upwards: two halves of the oracles score above 0, the more so the fewer there are; report that floor with
it. Bins span both samples, so that one outlier coarsens all bins of its point. A model that always answers alike is far
from its oracles though it may have forgotten.

Papers: Georgiev, Rinberg, Park, Garg, Ilyas, Madry, Neel. Attribute-to-Delete: Machine Unlearning via Datamodel
Matching. 2024, arXiv:2410.23232. As computed here: Rinberg et al. Easy Data Unlearning Bench, 2025.

Checked: RoyRin/data-unlearning-bench@eb261f9 (margins and KL in both directions, to 1e-9).

Deviations: the released code puts a margin equal to the largest of both samples into no bin and so drops it before
counting; the last bin is closed here: `drop_maximum=True` drops it (with all margins of P gone, its KL is nan). Its
parameters are named for KL(unlearned || oracle), but its caller passes the oracles first: published numbers are
KL(oracle || unlearned), which is the default here too. Tokens as points, averaged within an answer first, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from attrs import evolve, field, frozen
from attrs.validators import ge, gt, in_, min_len
from torch import Tensor

from unlearnkit.errors import DataError
from unlearnkit.protocols import Needs, Score, Seen, Tokens
from unlearnkit.statistics import LabelMargin

Divergence = Literal["oracle_to_unlearned", "unlearned_to_oracle"]
"""KL(oracle || unlearned), which is large where oracles put mass that unlearned models do not; or the other way."""


def binned_kl(
    first: Tensor,
    second: Tensor,
    *,
    bins: int = 20,
    floor: float = 1e-5,
    clip: float = 100.0,
    drop_maximum: bool = False,
) -> Tensor:
    """KL(first || second) of histograms, for each point: [N, M], [K, M] -> [M] float64, in nats, >= 0.

    Args:
        first, second: a value for each model and point; the numbers of models may differ.
        bins: number of equal bins from the smallest to the largest value of both samples of a point.
        floor: least share of the second histogram where the first has mass, before both are normalised.
        clip: values are cut to [-clip, clip] first.
        drop_maximum: whether values equal to the largest are left out, as in released code, or in the last bin.

    A point with nan in either sample, or with no value left in the first, is nan.
    """
    one, other = first.double().T.clamp(-clip, clip), second.double().T.clamp(-clip, clip)
    both = torch.cat([one, other], 1)
    low, high = both.amin(1, keepdim=True), both.amax(1, keepdim=True)
    high = torch.where(low >= high, low + 1, high)
    edges = low + torch.arange(bins + 1, dtype=torch.float64, device=both.device) * ((high - low) / bins)
    edges[:, -1:] = high

    def shares(sample: Tensor) -> Tensor:
        place = torch.searchsorted(edges, sample.contiguous(), right=True) - 1  # the maximum: place `bins`
        if not drop_maximum:
            place = place.clamp(max=bins - 1)
        counts = torch.zeros(len(sample), bins + 1, dtype=torch.float64, device=sample.device)
        counts = counts.scatter_add(1, place.clamp(0, bins), torch.ones_like(sample))[:, :bins]
        return counts / counts.sum(1, keepdim=True).clamp(min=1.0)

    p = shares(one)
    q = shares(other)
    q = torch.where(p > 0, q.clamp(min=floor), q)
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)  # 0/0 = nan
    kl = torch.where(p == 0, 0.0, p * (p / q).log()).sum(1)
    return kl.masked_fill(both.isnan().any(1), torch.nan)


def answer_margins(seen: Seen, need: Tokens) -> dict[str, tuple[float, ...]]:
    """Margin of each gold token, in nats, by example id; `need` asks for `LabelMargin`. Keep these of every model."""
    return {
        name: tuple(margins.tolist()) for name, margins in zip(seen.ids[need.role], seen[need].split(), strict=True)
    }


def klom(
    unlearned: Sequence[Mapping[str, Sequence[float]]],
    oracles: Sequence[Mapping[str, Sequence[float]]],
    *,
    divergence: Divergence = "oracle_to_unlearned",
    bins: int = 20,
    floor: float = 1e-5,
    clip: float = 100.0,
    drop_maximum: bool = False,
) -> Score:
    """Mean KLoM over examples. Lower: closer to the oracles, so that on forget data a high one is "knowledge".

    An example counts as the mean of its points. Parts, over points: their number (`points`), `median` and `p95`.

    Args:
        unlearned: for each unlearned model, margins of each example's points, by example id (`answer_margins`).
        oracles: the same for each oracle.
        divergence: which of the two is the first argument of KL.
        bins, floor, clip, drop_maximum: as in `binned_kl`.

    Raises:
        DataError: no models, or models that were not run on the same points; names the example.
    """
    if not unlearned or not oracles:
        raise DataError(
            f"KLoM compares several unlearned models with several oracles; `unlearned` holds {len(unlearned)} and "
            f"`oracles` {len(oracles)}. Pass the margins of each model, keyed by example."
        )
    sizes = {name: len(margins) for name, margins in oracles[0].items()}
    for kind, models in (("unlearned", unlearned), ("oracles", oracles)):
        for number, model in enumerate(models):
            _check_points(model, sizes, f"{kind}[{number}]")
    names = [name for name, size in sizes.items() for _ in range(size)]
    per_example = dict.fromkeys(sizes, math.nan)
    if not names:
        return Score.mean(per_example, "knowledge")
    samples = [
        torch.tensor([[margin for name in sizes for margin in model[name]] for model in models], dtype=torch.float64)
        for models in (unlearned, oracles)
    ]
    first, second = samples if divergence == "unlearned_to_oracle" else samples[::-1]
    each = binned_kl(first, second, bins=bins, floor=floor, clip=clip, drop_maximum=drop_maximum)
    for (name, size), points in zip(sizes.items(), each.split(list(sizes.values())), strict=True):
        if size:
            per_example[name] = points.mean().item()
    measured = each[~each.isnan()]
    score = Score.mean(per_example, "knowledge")
    if score.value is None:
        return score
    quantiles = measured.quantile(torch.tensor([0.5, 0.95], dtype=torch.float64)).tolist()
    parts = {"points": float(len(measured)), "median": quantiles[0], "p95": quantiles[1]}
    return evolve(score, parts=parts)


def _check_points(model: Mapping[str, Sequence[float]], sizes: Mapping[str, int], called: str) -> None:
    if lacking := sorted(model.keys() ^ sizes.keys()):
        raise DataError(
            f"example {lacking[0]!r} is in only one of {called} and oracles[0], and so are {len(lacking) - 1} others. "
            "Run all models on the same rows."
        )
    for name, size in sizes.items():
        if len(model[name]) != size:
            raise DataError(
                f"example {name!r} has {len(model[name])} points in {called} and {size} in oracles[0]. Run all models "
                "on the same rows, tokenized alike."
            )


@frozen
class KLoM:
    """`klom` of gold tokens, with all models at hand (live or recorded). Lower: closer to the oracles.

    Models that do not fit together: run one after the other, keep `answer_margins` of each, and call `klom`.

    Attributes:
        unlearned: names of the unlearned models, two or more.
        oracles: names of the models retrained without the forget set, two or more.
        role: the data set.
        divergence, bins, floor, clip, drop_maximum: as in `klom`.
    """

    unlearned: tuple[str, ...] = field(validator=min_len(2))
    oracles: tuple[str, ...] = field(validator=min_len(2))
    role: str = "forget"
    divergence: Divergence = field(default="oracle_to_unlearned", validator=in_(get_args(Divergence)), kw_only=True)
    bins: int = field(default=20, validator=ge(1), kw_only=True)
    floor: float = field(default=1e-5, validator=gt(0.0), kw_only=True)
    clip: float = field(default=100.0, validator=gt(0.0), kw_only=True)
    drop_maximum: bool = field(default=False, kw_only=True)

    def tokens(self, of: str) -> Tokens:
        return Tokens(LabelMargin(), self.role, of=of)

    @property
    def needs(self) -> Needs:
        return frozenset(self.tokens(of) for of in self.unlearned + self.oracles)

    def __call__(self, seen: Seen) -> Score:
        unlearned, oracles = (
            [answer_margins(seen, self.tokens(of)) for of in models] for models in (self.unlearned, self.oracles)
        )
        return klom(
            unlearned,
            oracles,
            divergence=self.divergence,
            bins=self.bins,
            floor=self.floor,
            clip=self.clip,
            drop_maximum=self.drop_maximum,
        )
