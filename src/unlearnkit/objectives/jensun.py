r"""JensUn: pull predictions at forget answers to a repeated refusal, by a divergence that is bounded.

Its gradient fades where the refusal is impossible and where it is certain. `RetainJSD` holds retain answers at the
reference by the same divergence.

    L = mean_t JSD(p_t, e_t) + retain_weight * mean_t JSD(p_ref,t, p_t)
    JSD(p, q) = (KL(p || m) + KL(q || m)) / 2,    m = (p + q) / 2,    natural log, 0 <= JSD <= log 2

The first mean is over the tokens of forget answers. e_t is one-hot on a target id: the targets take turns, beginning
anew with each answer, so that a short refusal fills an answer of any length. The answer itself is still what the model
reads. Since e_t is one-hot, the divergence depends on nothing but a = p_t(target):

    JSD = (a log(2a / (1+a)) + (1-a) log 2 + log(2 / (1+a))) / 2,    dJSD/da = log(a / (1+a)) / 2
    dJSD/dz_target = a (1-a) log(a / (1+a)) / 2        -> 0 for a -> 0 and for a -> 1; that of cross-entropy is a - 1

Users write `JensUn(targets=ids) + 1.0 * RetainJSD()`, with the token ids of " No Idea", say. `divergence="kl"` is the
authors' ablation: KL(e_t || p_t) = -log a, cross-entropy to the pattern.

Paper: Singh, Müller, Croce, Hein. Unlearning That Lasts: Utility-Preserving, Robust, and Almost Irreversible Forgetting
in LLMs. 2025, arXiv:2509.02820.

Checked: nmndeep/JensUn-Unlearning@9d0cfd5, losses and gradients to 1e-9. Its other retain terms are
`CrossEntropy("retain")` and `RetainKL("retain", positions="answer")`.

Aliases:
    targets: tok_id (code)
    clamp: epsilon (code)

Deviations:
1. The code raises every probability below 1e-9, of both distributions, to 1e-9, without normalising anew. That moves
   the divergence by some 6e-4 where the vocabulary has 128,000 tokens. The default is exact; `clamp=1e-9` is the code.
2. In the retain term the code raises the mixture m to 1e-10, which can make the divergence slightly negative: by less
   than 4e-11 per token of the vocabulary. Here it is exact.
3. The code adds 1e-8 to the number of tokens it divides by, which is lost in float32. Here nothing is added.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import deep_iterable, ge, in_, instance_of, lt, min_len
from torch import Tensor

from unlearnkit.errors import VocabularyError
from unlearnkit.objectives.ce_u import places_in_answers
from unlearnkit.protocols import Additive, Compared, Loss, Needs, Seen, Term, Tokens, Unit


def jsd_to_one_hot(log_probs: Tensor) -> Tensor:
    """Jensen-Shannon divergence of a distribution from one that is certain of a token: any shape, in [0, log 2] nats.

    Args:
        log_probs: the distribution's log-prob of that token.
    """
    probs, others = log_probs.exp(), -torch.expm1(log_probs)
    surprise = -torch.log1p(-others / 2)  # log(2 / (1 + a)), without cancellation where a is close to 1
    return 0.5 * (probs * (log_probs + surprise) + others * math.log(2) + surprise)


def clamped_divergence_to_one_hot(
    logits: Tensor, targets: tuple[int, ...], *, divergence: Literal["jsd", "kl"], clamp: float
) -> Tensor:
    """Divergence from distributions certain of a token, small probabilities raised: [N, V], m ids -> [N, m], in nats.

    Args:
        logits: [N, V] under the model.
        targets: m token ids; one divergence for each.
        divergence: "jsd", or "kl", which is KL(one-hot || model).
        clamp: what smaller probabilities of either distribution are raised to, > 0; they do not sum to 1 any more.
    """
    probs = torch.softmax(logits, -1).clamp(min=clamp)
    at_targets = probs[:, list(targets)]

    def summand(model: Tensor, one_hot: float) -> Tensor:
        if divergence == "kl":
            return one_hot * (math.log(one_hot) - model.log())
        log_mixture = ((model + one_hot) / 2).log()
        return 0.5 * (model * (model.log() - log_mixture) + one_hot * (math.log(one_hot) - log_mixture))

    elsewhere = summand(probs, clamp).sum(-1, keepdim=True) - summand(at_targets, clamp)
    return elsewhere + summand(at_targets, 1.0)


def jensen_shannon(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """Jensen-Shannon divergence of model and reference, unreduced: [N, V], [N, V] -> [N], in [0, log 2] nats.

    Args:
        logits: [N, V] under the model.
        reference_logits: [N, V] under the reference; a constant.
    """
    log_probs = torch.log_softmax(logits, -1)
    reference_log_probs = torch.log_softmax(reference_logits.detach(), -1)
    log_mixture = torch.logaddexp(log_probs, reference_log_probs) - math.log(2)
    model = log_probs.exp() * (log_probs - log_mixture)
    reference = reference_log_probs.exp() * (reference_log_probs - log_mixture)
    return 0.5 * (model + reference).sum(-1)


@frozen
class ToOneHot:
    """Divergence from being certain of each of some tokens, at each position: [N, m].

    Attributes:
        targets: m token ids.
        divergence, clamp: see `clamped_divergence_to_one_hot`; a clamp of 0 is none, and exact.
    """

    targets: tuple[int, ...] = field(validator=min_len(1))
    divergence: Literal["jsd", "kl"] = "jsd"
    clamp: float = 0.0
    uses_labels = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        if max(self.targets) >= logits.shape[-1]:
            raise VocabularyError(
                f"the target ids {self.targets} reach beyond the model's {logits.shape[-1]} tokens. "
                "Take them from the model's own tokenizer."
            )
        if self.clamp:
            return clamped_divergence_to_one_hot(logits, self.targets, divergence=self.divergence, clamp=self.clamp)
        log_probs = torch.log_softmax(logits, -1)[:, list(self.targets)]
        return jsd_to_one_hot(log_probs) if self.divergence == "jsd" else -log_probs


@frozen
class JensenShannon:
    """`jensen_shannon` at each position."""

    uses_labels = False

    def __call__(self, logits: Tensor, reference_logits: Tensor, labels: Tensor) -> Tensor:
        return jensen_shannon(logits, reference_logits)


@frozen(kw_only=True)
class JensUn(Additive):
    """Divergence from a repeated pattern of tokens, averaged over the forget answers' tokens of the global step.

    Attributes:
        targets: the token ids of the pattern, in order; the first belongs to the first token of each answer.
        divergence: "jsd", or "kl" for cross-entropy to the pattern.
        clamp: what smaller probabilities are raised to, as in the authors' code (1e-9); 0: none, exact.
        role: whose answers are overwritten.
        name: what the term is logged as.
    """

    targets: tuple[int, ...] = field(validator=[instance_of(tuple), min_len(1), deep_iterable(ge(0))])
    divergence: Literal["jsd", "kl"] = field(default="jsd", validator=in_(("jsd", "kl")))
    clamp: float = field(default=0.0, validator=[ge(0.0), lt(1.0)])
    role: str = "forget"
    name: str = "jensun"

    @classmethod
    def released(cls, code: Literal["llama-3", "phi-3"]) -> JensUn:
        """The authors' settings for a family's tokenizer: the two tokens of their refusal, and the clamp."""
        return cls(targets={"llama-3": (2822, 4623), "phi-3": (1939, 2969)}[code], clamp=1e-9)

    @property
    def divergences(self) -> Tokens:
        return Tokens(ToOneHot(self.targets, self.divergence, self.clamp), self.role)

    @property
    def needs(self) -> Needs:
        return frozenset({self.divergences})

    def __call__(self, seen: Seen) -> Loss:
        flat = seen[self.divergences]
        turn = places_in_answers(flat.row, rows=flat.rows) % len(self.targets)
        each = flat.values.gather(1, turn[:, None])
        return Loss(Term(self.name, each.sum(), per=Unit("answer", self.role)))


@frozen
class RetainJSD(Additive):
    """`jensen_shannon` of model and reference, averaged over the tokens of a role's answers in the global step.

    Attributes:
        role: where the model is held.
        name: what the term is logged as. Default: "jsd_" and the role.
    """

    role: str = "retain"
    name: str = field(kw_only=True)

    @name.default
    def _named_after_the_role(self) -> str:
        return f"jsd_{self.role}"

    @property
    def divergence(self) -> Compared:
        return Compared(JensenShannon(), self.role, positions="answer")

    @property
    def needs(self) -> Needs:
        return frozenset({self.divergence})

    def __call__(self, seen: Seen) -> Loss:
        each = seen[self.divergence].values
        return Loss(Term(self.name, each.sum(), per=Unit("answer", self.role)))
