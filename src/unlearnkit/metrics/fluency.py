r"""Fluency: what a classifier makes of the text a model writes, and how surprised the model is by good text.

    classifier fluency = mean over texts of P(clean | text)                          in [0, 1], higher: more fluent
    perplexity = exp( (1/B) Σ_b (1/T_b) Σ_t nll_bt )      or, pooled over tokens,      exp( Σ nll / Σ T )      >= 1

The classifier is passed in: OpenUnlearning takes class 0 of madhurjindal/autonlp-Gibberish-Detector-492513457, with its
tokenizer cutting texts to 32 tokens (TOFU) or 512 (MUSE). It is called once, with every different text once. Needs the
generations that ROUGE reads as well, or log-probs of reference answers for the perplexity.

A fluent lie is fluent: neither number says that a model knows anything. Perplexity of answers that were to be forgotten
rises with forgetting; of other text, with damage. A single impossible token makes it infinite.

`SeenNgrams` stands in for a classifier in tests and where none can be loaded: the share of a text's character trigrams
that occur in texts it was shown, times the share of its neighbouring word pairs that are not repetitions. It is a
surrogate of ours, no calibrated probability: compare its numbers only with each other.

Paper: Dorna et al. OpenUnlearning: Accelerating LLM Unlearning via Unified Benchmarking of Methods and Metrics. NeurIPS
2025 (Datasets and Benchmarks), arXiv:2506.12618. Perplexity as in Tian et al. To Forget or Not? Towards Practical
Knowledge Unlearning for Large Language Models. Findings of EMNLP 2024, arXiv:2407.01920.

Checked: perplexity against zjunlp/KnowUnDo@92aea2b (recorded logits, 1e-5: float32 there). The classifier score: laws
only, as no numbers were recorded.

Deviations: none in the definitions. An empty text is given to the classifier like any other. An answer without tokens
is "not measured".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from attrs import field, frozen
from attrs.validators import in_, min_len
from torch import Tensor

from unlearnkit.errors import DataError
from unlearnkit.protocols import Classify, Generated, Greedy, Needs, Score, Seen, Tokens
from unlearnkit.statistics import LabelLogProb

Averaging = Literal["answers", "tokens"]
"""What a mean is taken over: answers, each by its own mean ("macro"), or the tokens of all answers ("micro")."""


def answer_nll(log_probs: Tensor, row: Tensor, *, rows: int) -> Tensor:
    """Mean negative log-probability of each answer's tokens: flat [N], [N] -> [rows] float64, in nats per token.

    Args:
        log_probs: [N] log-probs of answer tokens, in nats.
        row: [N] int64, the answer each token belongs to.
        rows: number of answers; one without tokens is nan.
    """
    nats = torch.zeros(rows, dtype=torch.float64, device=log_probs.device).index_add(0, row, log_probs.double())
    return -nats / torch.bincount(row, minlength=rows)  # 0/0 = nan


def perplexity(log_probs: Tensor, row: Tensor, *, rows: int, over: Literal["answers", "tokens"] = "answers") -> Tensor:
    """Exponential of the mean negative log-probability per token: flat [N], [N] -> scalar float64, >= 1.

    Args:
        log_probs, row, rows: as in `answer_nll`; answers without tokens do not count, and without any it is nan.
        over: "answers" weighs every answer the same, "tokens" every token.
    """
    return (answer_nll(log_probs, row, rows=rows).nanmean() if over == "answers" else -log_probs.double().mean()).exp()


@frozen
class AnswerPerplexity:
    """`perplexity` of reference answers under a model. Higher: the model knows less of them.

    Attributes:
        role: the data set.
        over: what the mean is taken over.
        of: the model that is measured.
    """

    role: str = "forget"
    over: Averaging = field(default="answers", validator=in_(get_args(Averaging)), kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Score:
        flat = seen[self.tokens]
        nlls = answer_nll(flat.values, flat.row, rows=flat.rows)
        left_out = tuple(key for key, absent in zip(seen.ids[self.role], nlls.isnan().tolist(), strict=True) if absent)
        if len(left_out) == flat.rows:
            return Score.not_measured(f"none of the {flat.rows} answers could be measured", "forgetting")
        if self.over == "tokens" and flat.values.isnan().any():
            return Score.not_measured("the log-probability of a token is nan, and tokens are pooled", "forgetting")
        value = perplexity(flat.values, flat.row, rows=flat.rows, over=self.over)
        return Score(float(value.detach()), "forgetting", n=flat.rows - len(left_out), left_out=left_out)


@frozen
class ClassifierFluency:
    """Mean probability that what a model writes is clean text. Higher: more fluent.

    Attributes:
        classify: texts to probabilities of the class "clean".
        role: the data set.
        decoding: how the model writes.
        of: the model that is measured.
    """

    classify: Classify
    role: str = "forget"
    decoding: Greedy = field(default=Greedy(max_new_tokens=200))
    of: str = field(default="model", kw_only=True)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated})

    def __call__(self, seen: Seen) -> Score:
        texts = seen[self.generated].texts
        unique = list(dict.fromkeys(texts))
        by_text = dict(zip(unique, self._probabilities(unique), strict=True)) if unique else {}
        each = (by_text[text] for text in texts)
        return Score.mean(dict(zip(seen.ids[self.role], each, strict=True)), "utility")

    def _probabilities(self, texts: Sequence[str]) -> list[float]:
        probabilities = self.classify(texts)
        if probabilities.shape != (len(texts),) or bool(((probabilities < 0) | (probabilities > 1)).any()):
            raise DataError(
                f"ClassifierFluency.classify has to return one probability in [0, 1] for each of {len(texts)} texts; "
                f"got a tensor of shape {tuple(probabilities.shape)}, {probabilities.flatten()[:3].tolist()} … "
                "Take the softmax over classes, and of it the clean class."
            )
        return probabilities.double().tolist()


@frozen
class SeenNgrams:
    """A stand-in for a gibberish classifier: known character trigrams times unrepeated word pairs, in [0, 1].

    Attributes:
        known: character trigrams of clean text, lower-cased, with a blank before and after the text.
    """

    known: frozenset[str] = field(validator=min_len(1))

    @classmethod
    def fit(cls, texts: Iterable[str]) -> SeenNgrams:
        """Remember the character trigrams of clean texts."""
        known = frozenset(trigram for text in texts for trigram in _trigrams(text))
        if not known:
            raise DataError("SeenNgrams.fit needs at least one text with a letter in it; got none.")
        return cls(known)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """n texts -> [n] float64; 0 for a text without words."""
        return torch.tensor([self._score(text) for text in texts], dtype=torch.float64)

    def _score(self, text: str) -> float:
        trigrams = _trigrams(text)
        if not trigrams:
            return 0.0
        pairs = list(pairwise(text.lower().split()))
        fresh = len(set(pairs)) / len(pairs) if pairs else 1.0
        return fresh * sum(trigram in self.known for trigram in trigrams) / len(trigrams)


def _trigrams(text: str) -> list[str]:
    words = text.lower().split()
    padded = f" {' '.join(words)} "
    return [padded[start : start + 3] for start in range(len(padded) - 2)] if words else []
