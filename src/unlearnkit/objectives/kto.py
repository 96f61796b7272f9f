r"""KTO for forgetting: push forget answers below the reference by more than refusals have moved on average.

    log_sigmoid   L = 1 - (2/beta) * mean_b log sigmoid(K - beta * r_b)
    sigmoid       L = 1 - (2/beta) * mean_b sigmoid(K - beta * r_b)
    r_b = log pi(y_b|x_b) - log pi_ref(y_b|x_b),    K = mean_i r_i over refusals, a constant (z_0 in KTO's paper)

Sequence sums over answer tokens and the end token. Refusals are not paired with answers, and K gets no gradient: they
are read, not taught. The gradient is ascent's, each sequence weighted by 2 sigmoid(beta r_b - K) (log_sigmoid; NPO's
weight if K is 0), or by 2 s (1 - s) with s = sigmoid(K - beta r_b) (sigmoid), which fades on both sides. K enters
inside a nonlinearity, so that the loss is no sum over rows: it is evaluated on whole steps.

Papers: Ethayarajh et al. KTO: Model Alignment as Prospect Theoretic Optimization. ICML 2024, arXiv:2402.01306. As
baselines of forgetting: Zhang, Lin, Bai, Mei. Negative Preference Optimization. COLM 2024, arXiv:2404.05868.

Checked: licong-lin/negative-preference-optimization@1207bbe, losses and gradients to 1e-9.

Deviations:
1. KTO's paper keeps its offset from falling below 0 and estimates it on mismatched pairs; the code for forgetting takes
   the plain mean over refusals. The default follows that code, and so does the constant 1, which changes no gradient.
2. NPO's authors multiply the offset by beta in their synthetic experiment, not for language models. Here beta
   multiplies the log-ratio only; `kto_loss` with beta * K as offset is the other form.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from attrs import field, frozen
from attrs.validators import gt, in_
from torch import Tensor

from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens
from unlearnkit.statistics import LabelLogProb

Form = Literal["log_sigmoid", "sigmoid"]
"""What the margin goes through: the logarithm keeps pulling on an answer far above the reference."""


def kto_loss(
    log_probs: Tensor,
    reference_log_probs: Tensor,
    offset: Tensor,
    *,
    beta: float,
    form: Literal["log_sigmoid", "sigmoid"] = "log_sigmoid",
) -> Tensor:
    """Per-sequence KTO loss, unreduced: [B], [B], [] -> [B].

    Args:
        log_probs: [B] summed (not averaged) log-probs of the answers to be forgotten under the model, in nats.
        reference_log_probs: [B] the same under the reference; a constant.
        offset: scalar, how far other answers have moved (`kto_offset`), in nats; a constant.
        beta: inverse temperature of the log-ratio, > 0; the offset is not multiplied by it.
        form: "log_sigmoid" or "sigmoid".
    """
    margin = offset.detach() - beta * (log_probs - reference_log_probs.detach())
    # logsigmoid, not softplus: torch's softplus turns linear above 20, an error of 2e-9.
    gain = torch.nn.functional.logsigmoid(margin) if form == "log_sigmoid" else torch.sigmoid(margin)
    return 1.0 - (2.0 / beta) * gain


def kto_offset(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Mean log-ratio of some answers, a constant: [B], [B] -> scalar, in nats; 0 of none.

    Args:
        log_probs: [B] summed answer log-probs under the model, in nats.
        reference_log_probs: [B] the same under the reference.
    """
    return (log_probs - reference_log_probs).detach().sum() / max(len(log_probs), 1)


@frozen(kw_only=True)
class KTO(Additive):
    """`kto_loss` averaged over the forget sequences of a step, with the step's refusals as offset.

    With `CrossEntropy("retain")` beside it, it is the authors' "grad_diff" variant. A step without refusals has
    offset 0, which is NPO plus 1.

    Attributes:
        beta: inverse temperature, > 0.
        form: what the margin goes through.
        role: whose answers are pushed down.
        refusals: the role whose mean log-ratio is the offset.
        name: what the term is logged as.
    """

    beta: float = field(default=0.1, validator=gt(0.0))
    form: Form = field(default="log_sigmoid", validator=in_(get_args(Form)))
    role: str = "forget"
    refusals: str = "idk"
    name: str = "kto"

    def log_probs(self, role: str, of: str) -> Tokens:
        return Tokens(LabelLogProb(), role, of=of)

    @property
    def needs(self) -> Needs:
        return frozenset(
            self.log_probs(role, of) for role in (self.role, self.refusals) for of in ("model", "reference")
        )

    def __call__(self, seen: Seen) -> Loss:
        model, refusals = seen[self.log_probs(self.role, "model")], seen[self.log_probs(self.refusals, "model")]
        reference = seen[self.log_probs(self.role, "reference")]
        reference_refusals = seen[self.log_probs(self.refusals, "reference")]
        refused, answered = refusals.counts() > 0, model.counts() > 0
        offset = kto_offset(refusals.sums()[refused], reference_refusals.sums()[refused])
        each = kto_loss(model.sums(), reference.sums(), offset, beta=self.beta, form=self.form)[answered]
        return Loss(Term(self.name, each.sum() / max(len(each), 1)))
