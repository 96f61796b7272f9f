r"""Approximate retraining: does a forget set look like unseen text of the same kind?

    perplexity = exp(-mean_documents mean_tokens log p)        accuracy = 100 * mean_documents (share of top-1 hits)
    MIA        = max(A, 1 - A),  A: AUC of Min-K between forget and unseen documents,  K in {30, 40, 50, 60, 100} %

Pretraining cannot be repeated without the forget set, so documents of its domain that were published after training
stand in for it: after good unlearning perplexity and accuracy on the forget set are those on the unseen documents, and
the attack is at 1/2. Retain and general text are reported beside them. What differs in style or date between the two
sets is mistaken for memory.

Paper: Yao, Chien, Du, Niu, Wang, Cheng, Yue. Machine Unlearning of Pre-trained Large Language Models. ACL 2024,
arXiv:2402.15159.

Checked: definitions as in yaojin17/Unlearning_LLM@d4b1287; closed forms only, no numbers of it were recorded.

Deviations: the authors turn an AUC below 1/2 round, so that a forget set that is less likely than unseen text and one
that is more likely look alike; so do we by default, `fold=False` leaves it. Documents of which K % are no whole token
are dropped there and left out here.
"""

from __future__ import annotations

import math

import torch
from attrs import field, frozen
from attrs.validators import deep_iterable, gt, le, min_len
from torch import Tensor

from unlearnkit.metrics.membership import auc, min_k_scores
from unlearnkit.protocols import Flat, Needs, Score, Seen, Tokens
from unlearnkit.statistics import LabelLogProb, TopHit


def document_means(values: Tensor, row: Tensor, *, rows: int) -> Tensor:
    """Mean over each document's tokens: flat [N], [N] -> [rows] float64; nan without tokens."""
    sums = torch.zeros(rows, dtype=torch.float64, device=values.device).index_add(0, row, values.double())
    return sums / torch.bincount(row, minlength=rows)


@frozen
class DocumentPerplexity:
    """exp of the mean over documents of the mean negative log-prob of their tokens. Higher: less is known.

    Attributes:
        role: the documents.
        of: the model that is measured.
    """

    role: str = "forget"
    of: str = field(default="model", kw_only=True)

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Score:
        nlls = -_means(seen[self.tokens])
        measured = nlls[~nlls.isnan()]
        left_out = tuple(name for name, nll in zip(seen.ids[self.role], nlls.tolist(), strict=True) if math.isnan(nll))
        if not len(measured):
            return Score(None, "forgetting", reason=f"no document of {self.role!r} has tokens", left_out=left_out)
        mean = float(measured.mean())
        value = math.exp(mean) if mean < 700 else math.inf
        return Score(value, "forgetting", n=len(measured), parts={"mean_nll": mean}, left_out=left_out)


@frozen
class DocumentAccuracy:
    """Mean over documents of the share of their tokens that are the most likely one, in percent. Higher: more is known.

    Attributes:
        role: the documents.
        of: the model that is measured.
    """

    role: str = "forget"
    of: str = field(default="model", kw_only=True)

    @property
    def tokens(self) -> Tokens:
        return Tokens(TopHit(), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Score:
        shares = 100 * _means(seen[self.tokens])
        return Score.mean(dict(zip(seen.ids[self.role], shares.tolist(), strict=True)), "knowledge")


@frozen
class UnseenAttack:
    """Mean over K of the Min-K AUC between forget documents and unseen ones of their kind; 1/2 is best.

    Parts: the AUC at each K, "min_k_0.3" and so on. A value below 1/2 can only be told from one above with
    `fold=False`: then higher means that more is known.

    Attributes:
        role: the forget documents.
        unseen: documents of the same domain that the model cannot have seen.
        shares: the K, each in (0, 1].
        fold: whether an AUC below 1/2 is turned round.
        of: the model that is measured.
    """

    role: str = "forget"
    unseen: str = field(default="unseen", kw_only=True)
    shares: tuple[float, ...] = field(
        default=(0.3, 0.4, 0.5, 0.6, 1.0), kw_only=True, validator=[min_len(1), deep_iterable([gt(0), le(1)])]
    )
    fold: bool = field(default=True, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def forget_tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=self.of)

    @property
    def unseen_tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.unseen, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.forget_tokens, self.unseen_tokens})

    def __call__(self, seen: Seen) -> Score:
        parts: dict[str, float] = {}
        for share in self.shares:
            members, others = (_scores(seen[need], share) for need in (self.forget_tokens, self.unseen_tokens))
            if not members or not others:
                return Score.not_measured(
                    f"{share:.0%} are no whole token in any document of {self.role!r} or of {self.unseen!r}",
                    "knowledge",
                )
            found = auc(members, others)
            parts[f"min_k_{share:g}"] = max(found, 1 - found) if self.fold else found
        value = math.fsum(parts.values()) / len(parts)
        return Score(value, "knowledge", n=len(seen.ids[self.role]), parts=parts)


def _means(flat: Flat) -> Tensor:
    return document_means(flat.values, flat.row, rows=flat.rows)


def _scores(flat: Flat, share: float) -> list[float]:
    """Min-K of the documents of which that share is at least a token."""
    scores = min_k_scores(flat.values, flat.row, rows=flat.rows, k=share, at_least_one=False)
    return [score for score in scores.tolist() if not math.isnan(score)]
