r"""PDU (primal-dual unlearning): flatten the logits of forget answers, subject to a bound on the retain loss.

A Lagrange multiplier weighs the retain loss; it is raised while the bound is broken and lowered while it holds.

    min_theta F(theta)  subject to  R(theta) <= level
    F = mean_t (max_v z_tv - mean_v z_tv)^2        z: logits, t: positions that predict a forget answer's tokens
    L = F + multiplier * R                         R: token-mean NLL of retain answers, or retain KL
    multiplier <- max(0, multiplier + dual_step * (R - level))        after optimizer steps, beginning after a warm-up

F is 0 exactly where the model is uniform, does not change when a constant is added to a position's logits, and grows
with the square of their scale: its pull, 2 (max - mean) (onehot(argmax) - 1/V) per position, fades only at flatness.
R is minimised with the multiplier as it stands; the multiplier moves afterwards, by the R of that step. Choose `level`
somewhat above R before unlearning; F is large, hence an initial multiplier of 50 or 100.

The constant -multiplier * level of the Lagrangian has no gradient and is left out of the loss. The multiplier of a step
is (loss - mean of "pdu_forget") / mean of "pdu_retain", as logged. All state is in fields, so that a run that was
interrupted goes on with the same multiplier.

Paper: Entesari, Hatami, Khaziev, Ramakrishna, Fazlyab. Constrained Entropic Unlearning: A Primal-Dual Framework for
Large Language Models. NeurIPS 2025, arXiv:2506.05314.

Checked: locuslab/open-unlearning@d3d7cf9, where the authors' code lives: F's loss and gradient to 1e-9, with its mask.

Aliases:
    level: epsilon (paper), retain_loss_eps (OpenUnlearning)
    multiplier: lambda (paper), alpha (OpenUnlearning)
    dual_step: eta (paper), dual_step_size (OpenUnlearning)

Deviations:
1. The code masks F with labels that are not shifted: the position that predicts an answer's first token is left out,
   and the one at its last token, which predicts nothing, is counted. Here F is over the positions that predict answer
   tokens. The tests reproduce the released numbers with `logit_margin_flattening` over the code's positions.
2. The code moves the multiplier in every micro-batch and on every rank, by the R of that piece, so that the multiplier
   depends on how a step is cut, moves several times per optimizer step, and differs between ranks. Here it moves once,
   by the R of the whole global step.
3. To move it once per epoch, the code evaluates R on the whole training set after the epoch, in evaluation mode, as a
   mean of batch means. Here `dual_every=steps_per_epoch` takes the mean of the steps' R, as seen while the weights
   moved. Its first move is after the epoch that ends the warm-up, ours `dual_every` steps after the warm-up: for the
   same schedule, make `warmup_steps` one epoch shorter.
4. The code's retain KL is averaged over padding too; here over real tokens, see retain_kl.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from attrs import evolve, field, frozen
from attrs.validators import ge, in_
from torch import Tensor

from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit

RetainLoss = Literal["nll", "kl"]
"""What is bounded: the token-mean NLL of retain answers, or the KL from the reference on retain text."""


def logit_margin_flattening(logits: Tensor) -> Tensor:
    """Squared distance of the largest logit from the mean logit, unreduced: [N, V] -> [N], >= 0, in squared logits."""
    # max, not amax: of several largest logits one gets the gradient, as in the authors' code.
    return (logits.max(-1).values - logits.mean(-1)).square()


def dual_ascent(multiplier: float, violation: float, *, dual_step: float) -> float:
    """The next Lagrange multiplier: gradient ascent on the dual, never below 0.

    Args:
        multiplier: the current one, >= 0.
        violation: retain loss minus its bound; positive if the constraint is broken.
        dual_step: step size.
    """
    return max(0.0, multiplier + dual_step * violation)


@frozen
class LogitMargin:
    """`logit_margin_flattening` at each position."""

    uses_labels = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logit_margin_flattening(logits)


@frozen(kw_only=True)
class PDU(Additive):
    """Flattening of forget answers plus `multiplier` times the retain loss, which it keeps at most at `level`.

    Terms "pdu_forget" and "pdu_retain", averaged over the tokens of the global step. Add no other retain term: the
    constraint is one. With a weight of its own, `0.5 * PDU(...)`, both terms are scaled.

    Attributes:
        level: the largest retain loss that is allowed, in nats per token.
        multiplier: weight of the retain term; what it is at the beginning, and what it has become.
        dual_step: how far the multiplier moves per nat of violation.
        warmup_steps: optimizer steps during which the multiplier stands still.
        dual_every: optimizer steps between two moves; they are by the mean retain loss of these steps.
        retain_loss: "nll", or "kl", which needs the reference.
        forget, retain: the roles.
        name: what the terms' names begin with.
        steps: optimizer steps since the beginning; state, leave it alone.
        since_move: retain losses of the steps since the warm-up or the last move; state, leave it alone.
    """

    level: float = field(validator=finite)
    multiplier: float = field(default=100.0, validator=[ge(0.0), finite])
    dual_step: float = field(default=5.0, validator=[ge(0.0), finite])
    warmup_steps: int = field(default=0, validator=ge(0))
    dual_every: int = field(default=1, validator=ge(1))
    retain_loss: RetainLoss = field(default="nll", validator=in_(get_args(RetainLoss)))
    forget: str = "forget"
    retain: str = "retain"
    name: str = "pdu"
    steps: int = field(default=0, validator=ge(0))
    since_move: tuple[float, ...] = ()

    @classmethod
    def released(cls, code: Literal["tofu", "muse-news", "muse-books"], *, steps_per_epoch: int) -> PDU:
        """The authors' settings; on MUSE for Llama-2-7B. Their warm-up is 5 epochs on TOFU, 3 on MUSE."""
        level, multiplier, dual_step, epochs = {
            "tofu": (0.3, 100.0, 5.0, 5),
            "muse-news": (1.5, 50.0, 1.0, 3),
            "muse-books": (0.1, 50.0, 1.0, 3),
        }[code]
        return cls(level=level, multiplier=multiplier, dual_step=dual_step, warmup_steps=epochs * steps_per_epoch)

    @property
    def flattening(self) -> Tokens:
        return Tokens(LogitMargin(), self.forget)

    @property
    def constrained(self) -> CrossEntropy | RetainKL:
        """What the constraint is about, as an objective of one term."""
        return CrossEntropy(self.retain) if self.retain_loss == "nll" else RetainKL(self.retain)

    @property
    def needs(self) -> Needs:
        return self.constrained.needs | {self.flattening}

    def __call__(self, seen: Seen) -> Loss:
        each = seen[self.flattening].values
        (retain,) = self.constrained(seen)
        return Loss(
            Term(f"{self.name}_forget", each.sum(), per=Unit("answer", self.forget)),
            evolve(retain, name=f"{self.name}_retain", weight=self.multiplier),
        )

    def after_step(self, means: Mapping[str, float]) -> PDU:
        """The objective of the next step; it reads the unweighted mean of the retain term."""
        steps = self.steps + 1
        if steps <= self.warmup_steps:
            return evolve(self, steps=steps)
        losses = (*self.since_move, means[f"{self.name}_retain"])
        if len(losses) < self.dual_every:
            return evolve(self, steps=steps, since_move=losses)
        violation = sum(losses) / len(losses) - self.level
        moved = dual_ascent(self.multiplier, violation, dual_step=self.dual_step)
        return evolve(self, steps=steps, since_move=(), multiplier=moved)
