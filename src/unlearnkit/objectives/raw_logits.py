r"""MUSE's losses on raw logits: what its released code calls NPO, SimNPO and KL, every vocabulary entry for itself.

    RawLogitNPO      L = -(2/beta) * mean_{t,v} log sigmoid(-beta * (z[t,v] - z_ref[t,v]))
    RawLogitSimNPO   L = -(2/beta) * mean_{t,v} log sigmoid(-beta * (z[t,v] + margin))
    RawLogitKL       L = (1/B) * sum_{t,v} exp(z_ref[t,v]) * (z_ref[t,v] - z[t,v])

z are logits before any softmax, at every token t of B texts and every entry v of the vocabulary. No label is read: the
two forget losses push every logit of a position down, whichever token follows, by a gradient of at most 2 / V. Adding a
constant to a position's logits changes the loss but no probability, so that much of what is learned need not change
what is said. The KL is none: it can be negative, falls without bound as z grows, and overflows where z_ref exceeds 88
(709 in float64).

They are here to reproduce numbers that were published under the names of NPO, SimNPO and KL. To forget, use those.

Papers: Shi et al. MUSE: Machine Unlearning Six-Way Evaluation for Language Models. ICLR 2025, arXiv:2407.06460.
Fan et al. Simplicity Prevails (SimNPO). NeurIPS 2025, arXiv:2410.07163, whose MUSE folder is built on that code.

Aliases:
    margin: gamma (code)

Checked: jaechan-repo/muse_bench@54719c5 and OPTML-Group/Unlearn-Simple@f1a355d (MUSE folder), losses and gradients to
1e-9.

Deviations: the papers write NPO, SimNPO and a KL of distributions; npo.py, simnpo.py and retain_kl.py have those. The
code takes every position of a batch, and its texts are cut to one length, without padding. Here it is every real token.
"""

from __future__ import annotations

import torch
from attrs import field, frozen
from attrs.validators import gt, in_
from torch import Tensor

from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import POSITIONS, Additive, Compared, Loss, Needs, Positions, Seen, Term, Tokens, Unit


def raw_logit_npo(logits: Tensor, reference_logits: Tensor, *, beta: float) -> Tensor:
    """NPO's formula on each raw logit, averaged over the vocabulary: [N, V], [N, V] -> [N].

    Args:
        logits: [N, V] under the model, before the softmax.
        reference_logits: [N, V] under the reference; a constant.
        beta: inverse temperature, > 0.
    """
    difference = logits - reference_logits.detach()
    return -(2.0 / beta) * torch.nn.functional.logsigmoid(-beta * difference).mean(-1)


def raw_logit_simnpo(logits: Tensor, *, beta: float, margin: float = 0.0) -> Tensor:
    """SimNPO's formula on each raw logit, averaged over the vocabulary: [N, V] -> [N].

    Args:
        logits: [N, V] under the model, before the softmax.
        beta: inverse temperature, > 0.
        margin: how far below 0 a logit has to fall before the pull fades.
    """
    return -(2.0 / beta) * torch.nn.functional.logsigmoid(-beta * (logits + margin)).mean(-1)


def raw_logit_kl(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """The formula of KL(reference || model) with raw logits for log-probs, summed over the vocabulary: -> [N].

    Args:
        logits: [N, V] under the model, before the softmax.
        reference_logits: [N, V] under the reference; a constant.
    """
    reference = reference_logits.detach()
    return (reference.exp() * (reference - logits)).sum(-1)


@frozen
class FromRawReference:
    """`raw_logit_npo` at each position."""

    beta: float
    uses_labels = False

    def __call__(self, logits: Tensor, reference_logits: Tensor, labels: Tensor) -> Tensor:
        return raw_logit_npo(logits, reference_logits, beta=self.beta)


@frozen
class FromZero:
    """`raw_logit_simnpo` at each position."""

    beta: float
    margin: float
    uses_labels = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return raw_logit_simnpo(logits, beta=self.beta, margin=self.margin)


@frozen
class RawKL:
    """`raw_logit_kl` at each position."""

    uses_labels = False

    def __call__(self, logits: Tensor, reference_logits: Tensor, labels: Tensor) -> Tensor:
        return raw_logit_kl(logits, reference_logits)


@frozen(kw_only=True)
class RawLogitNPO(Additive):
    """`raw_logit_npo` averaged over the tokens of the global step. Not NPO: see the top of this file.

    Attributes:
        beta: inverse temperature, > 0.
        role: whose logits are pushed down.
        positions: "non_pad" every real token, "text" those with a next token, "answer" those that predict an answer.
        name: what the term is logged as.
    """

    beta: float = field(default=0.1, validator=gt(0.0))
    role: str = "forget"
    positions: Positions = field(default="non_pad", validator=in_(POSITIONS))
    name: str = "npo"

    @property
    def each(self) -> Compared:
        return Compared(FromRawReference(self.beta), self.role, positions=self.positions)

    @property
    def needs(self) -> Needs:
        return frozenset({self.each})

    def __call__(self, seen: Seen) -> Loss:
        return Loss(Term(self.name, seen[self.each].values.sum(), per=Unit(self.positions, self.role)))


@frozen(kw_only=True)
class RawLogitSimNPO(Additive):
    """`raw_logit_simnpo` averaged over the tokens of the global step. Not SimNPO: see the top of this file.

    Attributes:
        beta: inverse temperature, > 0.
        margin: how far below 0 a logit has to fall before the pull fades.
        role: whose logits are pushed down.
        positions: "non_pad" every real token, "text" those with a next token, "answer" those that predict an answer.
        name: what the term is logged as.
    """

    beta: float = field(default=0.7, validator=gt(0.0))
    margin: float = field(default=0.1, validator=finite)
    role: str = "forget"
    positions: Positions = field(default="non_pad", validator=in_(POSITIONS))
    name: str = "simnpo"

    @property
    def each(self) -> Tokens:
        return Tokens(FromZero(self.beta, self.margin), self.role, positions=self.positions)

    @property
    def needs(self) -> Needs:
        return frozenset({self.each})

    def __call__(self, seen: Seen) -> Loss:
        return Loss(Term(self.name, seen[self.each].values.sum(), per=Unit(self.positions, self.role)))


@frozen(kw_only=True)
class RawLogitKL(Additive):
    """`raw_logit_kl` summed over a text, averaged over the texts of the global step. No KL: see the top of this file.

    A text without supervised tokens is summed too, but not counted: MUSE supervises every token.

    Attributes:
        role: where the model is held.
        positions: "non_pad" every real token, "text" those with a next token, "answer" those that predict an answer.
        of: the name of the model to stay close to.
        name: what the term is logged as. Default: "kl_" and the role.
    """

    role: str = "retain"
    positions: Positions = field(default="non_pad", validator=in_(POSITIONS))
    of: str = "reference"
    name: str = field()

    @name.default
    def _named_after_the_role(self) -> str:
        return f"kl_{self.role}"

    @property
    def each(self) -> Compared:
        return Compared(RawKL(), self.role, of=self.of, positions=self.positions)

    @property
    def needs(self) -> Needs:
        return frozenset({self.each})

    def __call__(self, seen: Seen) -> Loss:
        return Loss(Term(self.name, seen[self.each].values.sum(), per=Unit("sequence", self.role)))
