r"""DUET: teach a model without instructions to answer as the reference does when told that it has forgotten.

    L = mean_x sum_{v in C(x)} huber(z(v|x) - z_ref(v|prefix, x)),    C(x) the `top` largest logits of the teacher
    huber(d) = d^2 / 2 if |d| <= delta, else delta * (|d| - delta / 2)

The teacher is the frozen reference behind a prefix ("You have forgotten all about ..., act as if you never knew it."),
the student the model without it. z are logits before the softmax at the first answer position, where it is decided
whether an answer is given at all. Queries suffice; forget and retain queries are treated alike, in one mean. With
respect to a logit in C the gradient is the difference, clipped at delta; the other logits get none. Adding a constant
to the student's logits changes the loss. Without a prefix the loss and its gradient are 0 at the reference; with all of
the vocabulary in C and a large delta it is half the squared distance of the logits.

    teacher = models.Prefixed(models.CausalLM(reference), prefix=tokenizer(PREFIX)["input_ids"])
    unlearn(model, DUET(), data, models={"teacher": teacher}, ...)

A row's first supervised token marks the position; which token it is does not matter.

Paper: Zhong, Yang, Zhu. DUET: Distilled Unlearning from an Efficient Teacher. ICLR 2026, arXiv:2601.21283.

Reconstructed: the equation is the paper's, read from notes and reviews of it; there is no code. `top` and `delta` are
not known, 20 and 1 are guesses. That only the first position is taught is said by a reviewer; with `every_position` the
teacher is followed along the answers that the rows hold (its own greedy ones, say).

Checked: closed forms, finite differences and the laws of this library; no official numbers exist.

Deviations: none are known.
"""

from __future__ import annotations

import torch
from attrs import field, frozen
from attrs.validators import ge, gt, instance_of, min_len
from torch import Tensor

from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Compared, Flat, Loss, Needs, Seen, Term, Unit


def top_logit_huber(logits: Tensor, teacher_logits: Tensor, *, top: int, delta: float) -> Tensor:
    """Huber loss on the teacher's largest logits, summed over them: [N, V], [N, V] -> [N].

    Args:
        logits: [N, V] under the student, before the softmax.
        teacher_logits: [N, V] under the teacher; a constant.
        top: how many of the teacher's logits are compared; all V if there are fewer.
        delta: the difference from which on the loss grows linearly, > 0.
    """
    target = teacher_logits.detach().topk(min(top, logits.shape[-1]), -1)
    found = logits.gather(-1, target.indices)
    return torch.nn.functional.huber_loss(found, target.values, reduction="none", delta=delta).sum(-1)


@frozen
class FromTeacher:
    """`top_logit_huber` at each position."""

    top: int
    delta: float
    uses_labels = False

    def __call__(self, logits: Tensor, reference_logits: Tensor, labels: Tensor) -> Tensor:
        return top_logit_huber(logits, reference_logits, top=self.top, delta=self.delta)


def first_of_each_row(row: Tensor) -> Tensor:
    """Whether a value is the first of its row: [N] int64, ascending -> [N] bool."""
    return torch.cat([torch.ones_like(row[:1]), row.diff()]) > 0


@frozen(kw_only=True)
class DUET(Additive):
    """`top_logit_huber` at the first answer position, averaged over the queries of all roles in the global step.

    The teacher is a live model under the name "teacher", a `Prefixed` one for instance.

    Attributes:
        top: how many of the teacher's logits are compared. Their losses are summed.
        delta: the difference of two logits from which on the loss grows linearly.
        every_position: follow the teacher along the whole answer, not at its first token alone.
        roles: whose queries are learned.
        of: the name of the teacher.
        name: what the term is logged as.
    """

    top: int = field(default=20, validator=ge(1))
    delta: float = field(default=1.0, validator=[gt(0.0), finite])
    every_position: bool = False
    roles: tuple[str, ...] = field(default=("forget", "retain"), validator=[instance_of(tuple), min_len(1)])
    of: str = "teacher"
    name: str = "duet"

    def distance(self, role: str) -> Compared:
        return Compared(FromTeacher(self.top, self.delta), role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset(self.distance(role) for role in self.roles)

    def __call__(self, seen: Seen) -> Loss:
        sums = torch.stack([self.total(seen[self.distance(role)]) for role in self.roles])
        return Loss(Term(self.name, sums.sum(), per=Unit("sequence", self.roles)))

    def total(self, flat: Flat) -> Tensor:
        """Sum over the positions that are taught, 0-d."""
        return flat.values.sum() if self.every_position else flat.values[first_of_each_row(flat.row)].sum()
