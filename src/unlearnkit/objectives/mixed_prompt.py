r"""Mixed-prompt unlearning (MP-ME): asked a forgotten and a kept thing at once, know nothing of one, all of the other.

    L = K_FR + K_RF,    K = mean_t KL(p_t || q_t)        the model comes first
    q_t = uniform where the next token is of the forget question or answer, p_ref,t elsewhere

FR and RF are prompts of two questions with both answers, the forget question first and the retain question first. The
uniform part is log V - H(p_t), so the model is pushed to maximum entropy there, without a floor to fall through;
elsewhere it is held at the reference, at which that part is 0. With no forget tokens K is a retain KL, reversed.

Its targeted sibling MP-IDK needs no class: it is cross-entropy on both orders, with a refusal for the forget answer:
`CrossEntropy("forget_retain") + CrossEntropy("retain_forget")`. Rows of both come from data/mixed_prompts.py, and so
does the recording that is bound to "segments". The reference has to be a live model.

To copy: `missing_entropy`, the uniform part, is in maximum_entropy.py.

Aliases:
    forget_first: forget+retain (paper: FR)
    retain_first: retain+forget (paper: RF)

Paper: Jeung, Yoon, No. SEPS: A Separability Measure for Robust Unlearning in LLMs. EMNLP 2025, arXiv:2505.14832.

Checked: AI-ISL/SEPS@2d36ecf (MP-ME, MP-IDK, and MP-IDK beside NPO), losses and gradients to 1e-9.

Deviations:
1. The code averages over all positions but the last, padding included; here over real tokens with a next one, prompt
   and answers. `positions="answer"` leaves the prompt out.
2. The code finds segments by matching tokens of Llama-2, with offsets set by hand, so that the first tokens of each
   segment stay at the reference. Here a segment is the characters of a question or an answer.
3. The code clamps probabilities to [1e-12, 1] before the logarithm. Here log-softmax is used, which needs no clamp.
"""

from __future__ import annotations

from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import in_
from torch import Tensor

from unlearnkit.objectives.maximum_entropy import MissingEntropy
from unlearnkit.protocols import Additive, Compared, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import Given


def reverse_kl(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(model || reference) at each position, unreduced: [N, V], [N, V] -> [N], in nats, >= 0.

    Args:
        logits: [N, V] under the model.
        reference_logits: [N, V] under the reference; a constant.
    """
    log_probs = torch.log_softmax(logits, -1)
    reference_log_probs = torch.log_softmax(reference_logits.detach(), -1)
    return (log_probs.exp() * (log_probs - reference_log_probs)).sum(-1)


@frozen
class ReverseKL:
    """`reverse_kl` at each position."""

    uses_labels = False

    def __call__(self, logits: Tensor, reference_logits: Tensor, labels: Tensor) -> Tensor:
        return reverse_kl(logits, reference_logits)


@frozen(kw_only=True)
class MixedPromptKL(Additive):
    """KL from the model to the mixed target, averaged over the positions of each order; a term for each order.

    Where `Given("uniform")` is 1 the target is uniform, where it is 0 the reference; a number between mixes the two
    divergences.

    Attributes:
        forget_first: the role of prompts with the forget question first.
        retain_first: the role of prompts with the retain question first.
        positions: "text" prompt and answers, "answer" the answers only. The recording is made for the same.
        of: the name of the model to stay close to on the retain part.
        segments: the name of the recording that says where the target is uniform.
    """

    forget_first: str = "forget_retain"
    retain_first: str = "retain_forget"
    positions: Literal["text", "answer"] = field(default="text", validator=in_(("text", "answer")))
    of: str = "reference"
    segments: str = "segments"

    def entropy(self, role: str) -> Tokens:
        return Tokens(MissingEntropy(), role, positions=self.positions)

    def divergence(self, role: str) -> Compared:
        return Compared(ReverseKL(), role, of=self.of, positions=self.positions)

    def uniform(self, role: str) -> Tokens:
        return Tokens(Given("uniform"), role, of=self.segments, positions=self.positions)

    @property
    def needs(self) -> Needs:
        return frozenset(
            need(role)
            for role in (self.forget_first, self.retain_first)
            for need in (self.entropy, self.divergence, self.uniform)
        )

    def __call__(self, seen: Seen) -> Loss:
        return Loss(*(self._term(seen, role) for role in (self.forget_first, self.retain_first)))

    def _term(self, seen: Seen, role: str) -> Term:
        entropy, divergence = seen[self.entropy(role)].values, seen[self.divergence(role)].values
        share = seen[self.uniform(role)].values.detach().to(entropy.dtype)
        each = share * entropy + (1 - share) * divergence
        return Term(f"mixed_{role}", each.sum(), per=Unit(self.positions, role))
