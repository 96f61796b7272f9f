r"""Distribution matching: make the next-token distributions on some text those of a teacher.

    L = mean_b (1/T_b) * sum_t sum_v q_t(v) * (log q_t(v) - log p_t(v))        KL(teacher || model)

Means are over the supervised positions of a row, then over rows. q comes from a frozen model, or from soft labels made
beforehand (Who's Harry Potter's generic predictions, WPU's average over replaced names). The gradient with respect to
the logits is p - q; with certain labels the loss is cross-entropy, `CrossEntropy(role, reduction="sequence_mean")`.
WPU and its variant of Who's Harry Potter are `DistributionMatching("forget")`, plus `CrossEntropy("retain")` if asked.

Paper: Liu, Zhang, Jaakkola, Chang. Revisiting Who's Harry Potter: Towards Targeted Unlearning from a Causal
Intervention Perspective. EMNLP 2024, arXiv:2407.16997. Eldan, Russinovich. Who's Harry Potter? 2023, arXiv:2310.02238.

Checked: UCSB-NLP-Chang/causal_unlearn@cba1710, losses and gradients to 1e-9.

Deviations: the code marks the end of a row's positions by index 0, so that the first logits are never matched; here a
position is matched if the label after it is supervised. Rows without any neither count nor break.
"""

from __future__ import annotations

from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import in_
from torch import Tensor

from unlearnkit.protocols import Additive, Compared, Loss, Needs, Seen, Term, Unit


def teacher_kl(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(teacher || model) at each position, unreduced: [N, V], [N, V] -> [N], in nats, >= 0.

    Args:
        logits: [N, V] under the model.
        teacher_logits: [N, V] under the teacher; a constant. -inf is a token it rules out.
    """
    log_probs = torch.log_softmax(logits, -1)
    teacher = torch.softmax(teacher_logits.detach().to(logits.dtype), -1)
    return (torch.xlogy(teacher, teacher) - teacher * log_probs).sum(-1)


@frozen
class TeacherKL:
    """`teacher_kl` at each position."""

    uses_labels = False

    def __call__(self, logits: Tensor, reference_logits: Tensor, labels: Tensor) -> Tensor:
        return teacher_kl(logits, reference_logits)


@frozen
class DistributionMatching(Additive):
    """`teacher_kl` averaged over the supervised positions of each row, and over the rows of the global step.

    Attributes:
        role: the text on which the model is to be like the teacher.
        of: the name of the teacher, which is a live model or `SoftLabels`.
        reduction: "sequence_mean" weighs every row alike, "token" every position.
        name: what the term is logged as. Default: "matching_" and the role.
    """

    role: str = "forget"
    of: str = field(default="teacher", kw_only=True)
    reduction: Literal["sequence_mean", "token"] = field(
        default="sequence_mean", kw_only=True, validator=in_(("sequence_mean", "token"))
    )
    name: str = field(kw_only=True)

    @name.default
    def _named_after_the_role(self) -> str:
        return f"matching_{self.role}"

    @property
    def divergence(self) -> Compared:
        return Compared(TeacherKL(), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.divergence})

    def __call__(self, seen: Seen) -> Loss:
        flat = seen[self.divergence]
        if self.reduction == "token":
            return Loss(Term(self.name, flat.values.sum(), per=Unit("answer", self.role)))
        means = flat.means()
        return Loss(Term(self.name, means.sum(), per=Unit("sequence", self.role)))
