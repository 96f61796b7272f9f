r"""Annotated importance: unlearn the words that matter, as somebody marked them beforehand.

    S_b = sum_t m_t * log p_t                                           m_t given for each answer token, soft or 0 and 1
    ImportanceAscent    L = mean_b S_b
    ImportanceNPO       L = -(2/beta) * mean_b log sigmoid(-beta * (S_b - S_ref,b))

Marks are constants, made before the run; a token of weight 0 plays no part. Means are over all answers, those without a
mark included. With weights of 1 these are gradient ascent on the answer's sum and NPO. Both act on sums: a constant
factor on all marks is one on the ascent's weight and on NPO's beta. `WeightedAscent` is the mean over tokens instead.

GradDiff on marked words is `ImportanceAscent() + CrossEntropy("retain")`.

Paper: Yang, Wang, Huang, Liu, Zhang, Han. Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning. ICML 2025,
arXiv:2505.11953. It marks key words of TOFU's answers to see what importance does apart from saturation.

Checked: tmlr-group/SatImp@51314c0, losses and gradients to 1e-9: its ascent, and its NPO, GradDiff, NPO+GD and NPO+KL
with the ways of averaging below spelled out.

Deviations:
1. The code's ascent sums over the answers of a micro-batch, so that its size is in the learning rate; here it is a mean
   over answers.
2. The code's NPO adds up S over all answers of a micro-batch before it takes the sigmoid: one ratio for all of them.
   Here, as in NPO, each answer has its own.
3. The code's GradDiff divides both its terms by all B*(T-1) positions, padding included. Not offered.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import gt
from torch import Tensor

from unlearnkit.objectives.npo import npo_loss
from unlearnkit.objectives.validators import finite
from unlearnkit.objectives.weighted_ascent import weighted_ascent
from unlearnkit.protocols import Additive, Flat, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import Given, LabelLogProb


def marked_log_probs(log_probs: Tensor, marks: Tensor, row: Tensor, *, rows: int) -> Tensor:
    """Log-probability of what is marked in each answer, unreduced over answers: flat [N], [N], [N] -> [rows], in nats.

    Args:
        log_probs: [N] of answer tokens, in nats.
        marks: [N] how much each token counts; constants.
        row: [N] int64, the answer each token belongs to.
        rows: number of answers; one without tokens gets 0.
    """
    return log_probs.new_zeros(rows).index_add(0, row, marks.detach().to(log_probs.dtype) * log_probs)


@frozen(kw_only=True)
class ImportanceAscent(Additive):
    """`marked_log_probs` averaged over the forget answers of the global step.

    Attributes:
        role: whose answers are unlearned.
        of: the name of the recording, made by `given("weight", …)`, that holds the marks.
        name: what the term is logged as.
    """

    role: str = "forget"
    of: str = "weights"
    name: str = "importance_ascent"

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role)

    @property
    def marks(self) -> Tokens:
        return Tokens(Given("weight"), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens, self.marks})

    def __call__(self, seen: Seen) -> Loss:
        each = weighted_ascent(seen[self.tokens].values, seen[self.marks].values)
        return Loss(Term(self.name, each.sum(), per=Unit("sequence", self.role)))


@frozen(kw_only=True)
class ImportanceNPO(Additive):
    """`npo_loss` of `marked_log_probs`, averaged over the forget answers of the global step.

    Attributes:
        beta: inverse temperature, > 0.
        role: whose answers are pushed down.
        of: the name of the recording, made by `given("weight", …)`, that holds the marks.
        name: what the term is logged as.
    """

    beta: float = field(default=0.5, validator=[gt(0.0), finite])
    role: str = "forget"
    of: str = "weights"
    name: str = "importance_npo"

    @property
    def model(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role)

    @property
    def reference(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of="reference")

    @property
    def marks(self) -> Tokens:
        return Tokens(Given("weight"), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.model, self.reference, self.marks})

    def __call__(self, seen: Seen) -> Loss:
        marks, flat = seen[self.marks].values, seen[self.model]

        def answers(each: Flat) -> Tensor:
            return marked_log_probs(each.values, marks, each.row, rows=each.rows)

        losses = npo_loss(answers(flat), answers(seen[self.reference]), beta=self.beta)
        return Loss(Term(self.name, losses[flat.counts() > 0].sum(), per=Unit("sequence", self.role)))
