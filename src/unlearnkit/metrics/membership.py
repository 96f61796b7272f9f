r"""Membership inference: can a forget text be told from one that no model has seen, by how a model scores it?

    AUC = P(s(non-member) > s(member)) + 1/2 P(equal)      s: one score per text, oriented like a loss

    loss         -mean_t lp_t                                      reference   loss(model) - loss(reference)
    zlib         loss / bytes of the zlib-compressed text          lowercase   loss / loss of the lower-cased text
    min_k        -mean of the floor(k T) smallest lp_t             grad_norm   mean over weight tensors of |gradient|_p
    min_k_plus_plus   the same of z_t = (lp_t - mu_t) / sigma_t,   mu, sigma: of log p(v) over the vocabulary under p

An AUC of 1 means that the texts are clearly remembered, 1/2 that they look unseen, less that unlearning went too far.
It says nothing unless members and non-members are alike in all but training (style, length, date) and the non-members
were in no training set: `MembershipInference.check` refuses those that were. Small sets leave it noisy.

Papers: loss: Yeom et al., CSF 2018, arXiv:1709.01604. zlib, lowercase, reference: Carlini et al., USENIX Security 2021,
arXiv:2012.07805. min_k: Shi et al. Detecting Pretraining Data from LLMs. ICLR 2024, arXiv:2310.16789. min_k_plus_plus:
Zhang et al. Min-K%++. ICLR 2025, arXiv:2404.02936. TPR at low FPR: Carlini et al., IEEE S&P 2022, arXiv:2112.03570.

Checked: swj0419/muse_bench@fcd6651 (scores 1e-5, AUC 1e-9), jinzhuoran/RWKU@b8a03b3, AI-ISL/DUSK@129a0a5 and
locuslab/open-unlearning@d3d7cf9 (Min-K and Min-K++, float32 there: 1e-5). grad_norm: closed forms only.

Deviations: floor(k T) = 0 divides by 0 in MUSE, RWKU and DUSK (nan, and ours with `at_least_one=False`);
OpenUnlearning and we take one token at least. The paper's sigma may be 0: OpenUnlearning and we keep the variance above
1e-6 (`variance_floor=0` is RWKU's, with `sigma_offset=1e-6` DUSK's); a z that is no number is left out, as DUSK does.
OpenUnlearning leaves the last label (the end token) out of Min-K and Min-K++ (`drop_last=True`), nobody else does; it
scores a text without tokens 0, here it is not measured. RWKU reports means of -s per set and no AUC
(`MembershipScore`), and files Min-K++ 20 % under "mink20". MUSE and DUSK label non-members 1 and score -s, so that
their AUC is one minus ours; MUSE calls the loss "PPL". The compressed text is the supervised one, without blanks at its
ends.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from attrs import Attribute, field, frozen
from attrs.validators import ge, gt, le
from torch import Tensor

from unlearnkit.errors import DataError
from unlearnkit.metrics.memorization import without_last
from unlearnkit.protocols import Flat, Needs, Score, Seen, Texts, Tokens
from unlearnkit.statistics import LabelLogProb, LogProbMoments

# --- two samples of scores --------------------------------------------------------------------------------------------


class RocCurve(NamedTuple):
    """Points of a receiver operating characteristic, from (0, 0) to (1, 1).

    Attributes:
        thresholds: ascending; the first, -inf, stands for "nobody is called a member".
        false_positive: share of non-members that score at most the threshold.
        true_positive: share of members that do.
    """

    thresholds: tuple[float, ...]
    false_positive: tuple[float, ...]
    true_positive: tuple[float, ...]


def auc(first: Sequence[float], second: Sequence[float]) -> float:
    """Probability that a value of the second sample is larger than one of the first, ties counted half; in [0, 1].

    Raises:
        DataError: a sample is empty or holds nan.
    """
    lower, upper = _sorted("first", first), _sorted("second", second)
    smaller = int(np.searchsorted(lower, upper, side="left").sum())
    smaller_or_equal = int(np.searchsorted(lower, upper, side="right").sum())
    return (smaller + smaller_or_equal) / (2 * len(lower) * len(upper))


def roc_curve(members: Sequence[float], non_members: Sequence[float]) -> RocCurve:
    """What share of either side scores low enough to be called a member, for every threshold that matters.

    One point per distinct value, so that ties move both shares at once; the area under straight lines is `auc`.

    Raises:
        DataError: a sample is empty or holds nan.
    """
    known, unknown = _sorted("members", members), _sorted("non_members", non_members)
    thresholds = np.unique(np.concatenate([known, unknown]))
    false_positive = np.searchsorted(unknown, thresholds, side="right") / len(unknown)
    true_positive = np.searchsorted(known, thresholds, side="right") / len(known)
    return RocCurve((-math.inf, *thresholds.tolist()), (0.0, *false_positive.tolist()), (0.0, *true_positive.tolist()))


def tpr_at_fpr(members: Sequence[float], non_members: Sequence[float], *, fpr: float) -> float:
    """Largest share of members that is found while at most the share `fpr` of non-members is called one; in [0, 1].

    Texts with equal scores are called alike: a tie with one non-member too many is not used, nothing is interpolated.
    With fewer than 1 / fpr non-members none of them may be called a member.

    Raises:
        DataError: a sample is empty or holds nan.
    """
    curve = roc_curve(members, non_members)
    return max(found for called, found in zip(curve.false_positive, curve.true_positive, strict=True) if called <= fpr)


def _sorted(name: str, values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    ordered = np.sort(np.asarray(values, dtype=np.float64).reshape(-1))
    if not len(ordered) or np.isnan(ordered[-1]):
        what = f"{int(np.isnan(ordered).sum())} of {len(ordered)} values are nan" if len(ordered) else "it is empty"
        raise DataError(f"two samples are compared by rank, but {what} in `{name}`. Leave out what was not measured.")
    return ordered


# --- one score per text -----------------------------------------------------------------------------------------------


def loss_scores(log_probs: Tensor, row: Tensor, *, rows: int) -> Tensor:
    """Mean negative log-prob of each text, in nats per token: flat [N], [N] -> [rows] float64.

    Args:
        log_probs: [N] log-probs of the texts' tokens, in nats.
        row: [N] int64, the text each token belongs to.
        rows: number of texts; one without tokens is nan.
    """
    nats = torch.zeros(rows, dtype=torch.float64, device=log_probs.device).index_add(0, row, log_probs.double())
    return -nats / torch.bincount(row, minlength=rows)  # 0/0 = nan


def reference_scores(log_probs: Tensor, reference_log_probs: Tensor, row: Tensor, *, rows: int) -> Tensor:
    """Loss of each text less that of a reference model: flat [N], [N], [N] -> [rows] float64; arguments as above."""
    return loss_scores(log_probs, row, rows=rows) - loss_scores(reference_log_probs, row, rows=rows)


def zlib_scores(log_probs: Tensor, row: Tensor, sizes: Tensor, *, rows: int) -> Tensor:
    """Loss of each text per byte of its compressed form: flat [N], [N], [rows] -> [rows] float64.

    Args:
        log_probs, row, rows: as in `loss_scores`.
        sizes: [rows] what `compressed_size` says of each text.
    """
    return loss_scores(log_probs, row, rows=rows) / sizes


def compressed_size(text: str) -> int:
    """Bytes of the UTF-8 text compressed by zlib at its default level; 8 for the empty text.

    A lone surrogate, which is no character and has no UTF-8 form, counts as "?".
    """
    return len(zlib.compress(text.encode("utf-8", errors="replace")))


def lowest_mean(values: Tensor, row: Tensor, *, rows: int, k: float, at_least_one: bool = True) -> Tensor:
    """Mean of the floor(k T) smallest of the T values of each row: flat [N], [N] -> [rows] float64.

    Args:
        values: [N]; nan counts as the largest, and is left out of the mean.
        row: [N] int64, the row each value belongs to.
        rows: number of rows; one without values is nan.
        k: share of the values, in (0, 1].
        at_least_one: whether a row too short for its share counts its smallest value. If not, it is nan.
    """
    order = values.double().argsort()
    order = order[row[order].argsort(stable=True)]
    ordered, of_row = values.double()[order], row[order]
    length = torch.bincount(row, minlength=rows)
    place = torch.arange(len(row), device=row.device) - (length.cumsum(0) - length)[of_row]
    share = (length.double() * k).long()
    if at_least_one:
        share = share.clamp(min=1)
    wanted = (place < share[of_row]) & ~ordered.isnan()
    nothing = torch.zeros(rows, dtype=torch.float64, device=values.device)
    total = nothing.index_add(0, of_row, torch.where(wanted, ordered, 0.0))
    return total / nothing.index_add(0, of_row, wanted.double())  # 0/0 = nan


def min_k_scores(log_probs: Tensor, row: Tensor, *, rows: int, k: float, at_least_one: bool = True) -> Tensor:
    """Minus the mean of each text's least likely tokens' log-probs, in nats: flat [N], [N] -> [rows] float64.

    With k = 1 it is the loss. Arguments as in `lowest_mean`.
    """
    return -lowest_mean(log_probs, row, rows=rows, k=k, at_least_one=at_least_one)


def min_k_plus_plus_scores(
    log_probs: Tensor,
    moments: Tensor,
    row: Tensor,
    *,
    rows: int,
    k: float,
    at_least_one: bool = True,
    variance_floor: float = 1e-6,
    sigma_offset: float = 0.0,
) -> Tensor:
    """Minus the mean of each text's lowest normalised log-probs: flat [N], [N, 2], [N] -> [rows] float64.

    Args:
        log_probs: [N] log-probs of the texts' tokens, in nats.
        moments: [N, 2] mean and variance of log p over the vocabulary, under p.
        row, rows, k, at_least_one: as in `lowest_mean`.
        variance_floor: a smaller variance counts as this one. 0: as it is, and a z of 0/0 is left out.
        sigma_offset: added to the standard deviation.
    """
    mean, variance = moments.double().unbind(-1)
    z = (log_probs.double() - mean) / (variance.clamp(min=variance_floor).sqrt() + sigma_offset)
    return -lowest_mean(z, row, rows=rows, k=k, at_least_one=at_least_one)


def gradient_norm_scores(losses: Iterable[Tensor], weights: Sequence[Tensor], *, p: float = 2.0) -> list[float]:
    """Mean over weight tensors of the p-norm of each loss's gradient: high where a text is unlike what was learned.

    Args:
        losses: one scalar per text (its mean loss), best made one at a time by a generator: its graph is freed at once.
        weights: tensors that require gradients; one that a loss does not depend on is not counted in its mean.
        p: order of the norm.

    Raises:
        DataError: a loss depends on none of the weights.
    """
    scores = []
    for number, loss in enumerate(losses):
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(loss, weights, allow_unused=True)
        norms = [torch.linalg.vector_norm(gradient.double(), p) for gradient in gradients if gradient is not None]
        if not norms:
            raise DataError(f"loss {number} depends on none of the {len(weights)} `weights`. Pass those of its model.")
        scores.append(float(torch.stack(norms).mean()))
    return scores


# --- attacks: what they need of a data set, and its scores ------------------------------------------------------------


class Attack(Protocol):
    """One score per text, higher where it is less likely to have been trained on."""

    def needs(self, role: str, of: str) -> Needs:
        """What is read of the model `of` on the data set `role`."""

    def scores(self, seen: Seen, role: str, of: str) -> Tensor:
        """[rows] float64; nan where a text has no tokens to score."""


def _log_probs(role: str, of: str) -> Tokens:
    return Tokens(LabelLogProb(), role, of=of)


def _losses(flat: Flat) -> Tensor:
    return loss_scores(flat.values, flat.row, rows=flat.rows)


@frozen
class Loss:
    """`loss_scores`."""

    def needs(self, role: str, of: str) -> Needs:
        return frozenset({_log_probs(role, of)})

    def scores(self, seen: Seen, role: str, of: str) -> Tensor:
        return _losses(seen[_log_probs(role, of)])


@frozen
class Reference:
    """`reference_scores`: a text that is hard for every model does not look unseen.

    Attributes:
        of: the model it is compared with; often the oracle.
    """

    of: str = "reference"

    def needs(self, role: str, of: str) -> Needs:
        return frozenset({_log_probs(role, of), _log_probs(role, self.of)})

    def scores(self, seen: Seen, role: str, of: str) -> Tensor:
        flat, reference = seen[_log_probs(role, of)], seen[_log_probs(role, self.of)]
        return reference_scores(flat.values, reference.values, flat.row, rows=flat.rows)


@frozen
class Zlib:
    """`zlib_scores`: a text that repeats itself does not look trained on."""

    def needs(self, role: str, of: str) -> Needs:
        return frozenset({_log_probs(role, of), Texts(role)})

    def scores(self, seen: Seen, role: str, of: str) -> Tensor:
        flat = seen[_log_probs(role, of)]
        sizes = [compressed_size(text) for text in seen[Texts(role)].answers]
        return zlib_scores(flat.values, flat.row, flat.values.new_tensor(sizes, dtype=torch.float64), rows=flat.rows)


@frozen
class Lowercase:
    """Loss of a text over that of its lower-cased form, whose rows are a role of their own.

    Attributes:
        suffix: what that role's name ends in: "forget" has its lower-cased rows, with the same ids, in "forget_lower".
    """

    suffix: str = "_lower"

    def needs(self, role: str, of: str) -> Needs:
        return frozenset({_log_probs(role, of), _log_probs(role + self.suffix, of)})

    def scores(self, seen: Seen, role: str, of: str) -> Tensor:
        lower = role + self.suffix
        lower_losses = dict(zip(seen.ids[lower], _losses(seen[_log_probs(lower, of)]).unbind(), strict=True))
        if absent := [name for name in seen.ids[role] if name not in lower_losses]:
            raise DataError(
                f"row {absent[0]!r} of {role!r} has no lower-cased row of the same id in {lower!r}, and so have "
                f"{len(absent) - 1} others. Tokenize each text's `.lower()` into {lower!r} under its own id."
            )
        losses = _losses(seen[_log_probs(role, of)])
        return losses / torch.stack([lower_losses[name] for name in seen.ids[role]]) if len(losses) else losses


@frozen
class MinK:
    """`min_k_scores`.

    Attributes:
        k: share of the tokens that counts; MUSE and OpenUnlearning take 0.4.
        drop_last: whether the last supervised token of each text is left out.
        at_least_one: whether a text too short for its share counts its least likely token.
    """

    k: float = field(default=0.2, validator=[gt(0), le(1)])
    drop_last: bool = field(default=False, kw_only=True)
    at_least_one: bool = field(default=True, kw_only=True)

    def needs(self, role: str, of: str) -> Needs:
        return frozenset({_log_probs(role, of)})

    def scores(self, seen: Seen, role: str, of: str) -> Tensor:
        flat = seen[_log_probs(role, of)]
        flat = without_last(flat) if self.drop_last else flat
        return min_k_scores(flat.values, flat.row, rows=flat.rows, k=self.k, at_least_one=self.at_least_one)


@frozen
class MinKPlusPlus:
    """`min_k_plus_plus_scores`.

    Attributes:
        k, drop_last, at_least_one: as in `MinK`.
        variance_floor, sigma_offset: see the function.
    """

    k: float = field(default=0.2, validator=[gt(0), le(1)])
    drop_last: bool = field(default=False, kw_only=True)
    at_least_one: bool = field(default=True, kw_only=True)
    variance_floor: float = field(default=1e-6, validator=ge(0), kw_only=True)
    sigma_offset: float = field(default=0.0, validator=ge(0), kw_only=True)

    def needs(self, role: str, of: str) -> Needs:
        return frozenset({_log_probs(role, of), Tokens(LogProbMoments(), role, of=of)})

    def scores(self, seen: Seen, role: str, of: str) -> Tensor:
        flat, moments = seen[_log_probs(role, of)], seen[Tokens(LogProbMoments(), role, of=of)]
        if self.drop_last:
            flat, moments = without_last(flat), without_last(moments)
        return min_k_plus_plus_scores(
            flat.values,
            moments.values,
            flat.row,
            rows=flat.rows,
            k=self.k,
            at_least_one=self.at_least_one,
            variance_floor=self.variance_floor,
            sigma_offset=self.sigma_offset,
        )


# --- metrics ----------------------------------------------------------------------------------------------------------

FPRS = (0.01, 0.1)
"""False-positive rates at which `MembershipInference` says how many members are found."""


class BothSides(NamedTuple):
    """Score by example id of either side; nan where it could not be measured."""

    members: dict[str, float]
    non_members: dict[str, float]


def _neither_trained_on(self: MembershipInference, _: Attribute[str], role: str) -> None:
    if role in (self.members, *self.trained_on):
        raise DataError(
            f"non_members={role!r} is also named as trained on (members={self.members!r}, "
            f"trained_on={self.trained_on}). Compare with texts that no model was trained on."
        )


@frozen
class MembershipInference:
    """`auc` of an attack: members against texts that were never trained on. Higher: the model knows more.

    Parts: the share of members found at low false-positive rates, "tpr_at_fpr_0.01" and "tpr_at_fpr_0.1". Samples: the
    scores of either side, "members" and "non_members".

    Attributes:
        attack: what is scored.
        members: texts that the original model was trained on.
        non_members: texts like them that no model was trained on.
        trained_on: other roles that were trained on; `check` compares the non-members with them too.
        of: the model that is measured.
    """

    attack: Attack = field(default=MinK(0.4))
    members: str = field(default="forget", kw_only=True)
    trained_on: tuple[str, ...] = field(default=("retain",), kw_only=True)
    non_members: str = field(default="holdout", validator=_neither_trained_on, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def needs(self) -> Needs:
        return self.attack.needs(self.members, self.of) | self.attack.needs(self.non_members, self.of)

    def scores(self, seen: Seen) -> BothSides:
        """Each text's score, for a histogram or `roc_curve`."""
        return BothSides(
            *(
                dict(zip(seen.ids[role], self.attack.scores(seen, role, self.of).tolist(), strict=True))
                for role in (self.members, self.non_members)
            )
        )

    def __call__(self, seen: Seen) -> Score:
        sides = self.scores(seen)
        members, non_members = (_measured(side) for side in sides)
        left_out = tuple(key for side in sides for key, value in side.items() if math.isnan(value))
        if not members or not non_members:
            reason = (
                f"{len(members)} of {len(sides.members)} texts of {self.members!r} and {len(non_members)} of "
                f"{len(sides.non_members)} of {self.non_members!r} could be scored; there has to be one of each"
            )
            return Score(None, "knowledge", reason=reason, left_out=left_out)
        return Score(
            auc(members, non_members),
            "knowledge",
            n=len(members) + len(non_members),
            parts={f"tpr_at_fpr_{fpr:g}": tpr_at_fpr(members, non_members, fpr=fpr) for fpr in FPRS},
            left_out=left_out,
            samples={
                side: {name: score for name, score in of.items() if not math.isnan(score)}
                for side, of in (("members", sides.members), ("non_members", sides.non_members))
            },
        )

    def check(self, contents: Mapping[str, Mapping[str, str]]) -> None:
        """Raises a DataError if a non-member holds the same tokens as a row that was trained on."""
        refuse_trained_on(contents, self.non_members, (self.members, *self.trained_on))


def refuse_trained_on(contents: Mapping[str, Mapping[str, str]], role: str, trained_on: Sequence[str]) -> None:
    """Raise a DataError if a row of a role that has to be unseen is also one of those that were trained on.

    Args:
        contents: by role, each row's id and a digest of its tokens.
        role: the rows that have to be unseen.
        trained_on: roles that were trained on; one that is not in `contents` cannot be compared.
    """
    known = {digest: (other, name) for other in trained_on for name, digest in contents.get(other, {}).items()}
    unseen = contents.get(role, {})
    found = [(name, *known[digest]) for name, digest in unseen.items() if digest in known]
    if found:
        named = ", ".join(f"{name!r} is {twin!r} of {other!r}" for name, other, twin in found[:3])
        raise DataError(
            f"{len(found)} of the {len(unseen)} rows of {role!r} hold the same tokens as rows that were trained on: "
            f"{named}{' …' if len(found) > 3 else ''}. A comparison with texts the model has seen measures nothing. "
            f"Drop these rows from {role!r}, or, if such a role was not trained on, leave it out of `trained_on`."
        )


@frozen
class MembershipScore:
    """Mean score of an attack over one data set, as RWKU reports it (with the opposite sign). Higher: less known.

    It says something only beside the same number on the retain set, or of the oracle.

    Attributes:
        attack: what is scored.
        role: the data set.
        of: the model that is measured.
    """

    attack: Attack = field(default=Loss())
    role: str = field(default="forget", kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def needs(self) -> Needs:
        return self.attack.needs(self.role, self.of)

    def __call__(self, seen: Seen) -> Score:
        each = self.attack.scores(seen, self.role, self.of).tolist()
        return Score.mean(dict(zip(seen.ids[self.role], each, strict=True)), "forgetting")


def _measured(scores: Mapping[str, float]) -> list[float]:
    return [score for score in scores.values() if not math.isnan(score)]
