r"""Logit arithmetic: unlearn at inference by adding and subtracting what several models say of the next token.

    offset (delta-unlearning)   z = z_big + w (z_small - z_small,0)       small: trained to forget; small,0: before that
    WHP                         z = z_base - alpha relu(z_rf - z_base)    rf: reinforced by more training on forget data
    contrastive decoding        s = log p_expert - w log p_amateur        on {v : p_expert(v) >= theta max p_expert}

All act on logits of one vocabulary, in raw form; a constant added to a position's logits of a model moves all of its
results by a constant, but for WHP, whose relu compares the two models' raw logits. UCD, which subtracts what a small
model with the forget data knows beyond one without them, is the offset from "with" to "without":
`offset_logits(z, without, with_forget, weight=alpha)`. ULD, which subtracts a single assistant's logits, for scoring
and for greedy decoding, is `logit_difference` in uld.py.

Any knowledge stays in the weights of the large model: what attacks weights finds all of it.

Papers: Huang et al. Offset Unlearning for Large Language Models. TMLR 2025, arXiv:2404.11045. Eldan, Russinovich. Who's
Harry Potter? Approximate Unlearning in LLMs. 2023, arXiv:2310.02238. Li, Holtzman, Fried, Liang, Eisner, Hashimoto,
Zettlemoyer, Lewis. Contrastive Decoding: Open-ended Text Generation as Optimization. ACL 2023, arXiv:2210.15097.
Suriyakumar, Sekhari, Wilson. UCD: Unlearning in LLMs via Contrastive Decoding. 2025, arXiv:2506.12097 (from the paper's
description: no code was found, and the weight 1 is ours).

Checked, to 1e-9: UCSB-NLP-Chang/ULD@858608c (a re-implementation of offset unlearning; the authors' repository is
empty) with the gradient of the small model; swj0419/muse_bench@fcd6651 (WHP at inference);
XiangLi1999/ContrastiveDecoding@170e914.

Deviations:
    1. WHP as published makes training labels from these logits, the base model reading a text with anchor terms
       replaced. Here both models read the same text, as in MUSE.
    2. The released contrastive decoding multiplies the amateur's log-probs by a coefficient; the paper has none:
       `weight=1`. Its plausibility set is the paper's definition.
    3. Where both models agree on a token the released `mi` is 0/0 = nan; `logarithmic_mean_scores` has the limit, 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def offset_logits(
    base_logits: Tensor, assistant_logits: Tensor, assistant_reference_logits: Tensor, *, weight: float = 1.0
) -> Tensor:
    """Logits of a large model moved the way a small one has moved: [..., V] three times -> [..., V].

    Gradients reach the assistant only, so that it can be trained through this, with any loss on the result.

    Args:
        base_logits: of the large model; a constant.
        assistant_logits: of the small model that is trained.
        assistant_reference_logits: of the small model before; a constant.
        weight: what the difference is multiplied by.
    """
    return base_logits.detach() + weight * (assistant_logits - assistant_reference_logits.detach())


def generic_logits(base_logits: Tensor, reinforced_logits: Tensor, *, alpha: float = 1.0) -> Tensor:
    """WHP: lower what a reinforced model says more of than the base model: [..., V], [..., V] -> [..., V].

    Never above `base_logits`; equal to it where the reinforced model says less.

    Args:
        base_logits: raw logits of the model that is unlearned.
        reinforced_logits: raw logits of the same model after more training on the forget data.
        alpha: how much of the rise is taken off; 1 in MUSE, 5 in the authors' label construction.
    """
    return base_logits - alpha * torch.relu(reinforced_logits - base_logits)


def contrastive_scores(
    expert_logits: Tensor, amateur_logits: Tensor, *, weight: float = 1.0, plausibility: float = 0.1
) -> Tensor:
    """Contrastive decoding's score of each token, in nats: [..., V], [..., V] -> [..., V].

    Args:
        expert_logits, amateur_logits: raw logits.
        weight: what the amateur's log-probs are multiplied by.
        plausibility: theta, in [0, 1]: tokens less likely than theta times the expert's favourite score -inf. 0: none.
    """
    log_probs = expert_logits.log_softmax(-1)
    scores = log_probs - weight * amateur_logits.log_softmax(-1)
    if plausibility == 0:
        return scores
    implausible = log_probs < log_probs.amax(-1, keepdim=True) + math.log(plausibility)
    return scores.masked_fill(implausible, -torch.inf)


def logarithmic_mean_scores(expert_logits: Tensor, amateur_logits: Tensor) -> Tensor:
    """The score called `mi` in the released contrastive decoding: [..., V], [..., V] -> [..., V], in nats.

    log p_expert - log L, with L = (p_expert - p_amateur) / (log p_expert - log p_amateur) the logarithmic mean of both:
    above 0 where the expert finds a token more likely than the amateur does. It has no weight and is in no paper.
    """
    difference = amateur_logits.log_softmax(-1) - expert_logits.log_softmax(-1)
    equal = difference == 0
    ratio = torch.expm1(difference) / torch.where(equal, 1.0, difference)  # L / p_expert
    return -torch.where(equal, 1.0, ratio).log()
