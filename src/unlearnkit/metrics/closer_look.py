r"""Closer Look: diversity, similarity and entailment of what is generated, and the two sums that end the argument.

    token entropy      -sum_w f_w log2 f_w / log2 T       f_w: share of token w among the T tokens written; 0 if T <= 1
    cosine similarity  max(0, cos(e(text), e(before)))    e: a sentence embedder; before: what the original model wrote
    entailment score   share of examples whose text entails the answer (or the other way), if ROUGE-L recall >= 0.1
    Model Utility      harmonic mean of {ROUGE-L recall, probability, truth ratio, token entropy, cosine, entailment}
                       over {retain, real authors, world facts}: 18 numbers
    Forget Efficacy    1 - mean {ROUGE-L recall, probability, 1 - min(tr, 1/tr), cosine, entailment} on the forget set

All lie in [0, 1]. Utility is higher where more is left, efficacy where more is forgotten. Needs generated text with
its token ids, losses of right, paraphrased and wrong answers, an embedder (paraphrase-MiniLM-L6-v2 in the paper) and a
natural language inference model (deberta-v3-base-tasksource-nli); the two are injected.

Token entropy sees repeated tokens, not nonsense: random words score 1, and a text of one token 0 though it may be
right. Embeddings of unrelated sentences are not orthogonal, so that a cosine of 0.2 is no knowledge. Refusals neither
entail nor resemble an answer and count as forgotten.

Paper: Yuan, Pang, Du, Chen, Zhang, Lin. A Closer Look at Machine Unlearning for Large Language Models. ICLR 2025,
arXiv:2410.08109.

Checked: sail-sg/closer-look-LLM-unlearning@b622294 (entropy and all aggregates to 1e-9; cosine in float32 to 1e-6);
AI-ISL/SEPS@2d36ecf (its truth ratio and aggregates to 1e-9).

Deviations: the authors compare with answers kept in their data, which on two of the sets are what the original model
had written: `before=None` compares with the reference answers. The pair is (answer, text) on retain-type sets of TOFU
and (text, answer) elsewhere: `premise`. They split the text into tokens anew; here the ids that were generated are
counted. An answer without words of a-z and 0-9 has no ROUGE, and its entailment is "not measured" where theirs is 0.
SEPS takes the geometric mean of the wrong answers' losses, not of their probabilities (the mean of losses):
`wrong_losses`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Literal, get_args

import torch
from attrs import field, frozen
from attrs.validators import ge, in_, le
from torch import Tensor

from unlearnkit.errors import DataError
from unlearnkit.metrics.model_utility import harmonic_mean
from unlearnkit.metrics.probability import Probability, ProbabilityMC
from unlearnkit.metrics.questions import question_nlls
from unlearnkit.metrics.rouge import Rouge, rouge, words
from unlearnkit.metrics.truth_ratio import TruthRatio, truth_score
from unlearnkit.protocols import (
    Embed,
    Entail,
    Entailment,
    Generated,
    Greedy,
    Metric,
    Needs,
    Score,
    Seen,
    all_needs,
)

Premise = Literal["reference", "text"]
"""Which of the two is the premise: the reference answer, or what the model wrote. The other is the hypothesis."""

WrongLosses = Literal["arithmetic", "geometric"]
"""The mean that is taken over the losses of the wrong answers."""


def token_entropy(tokens: Sequence[Hashable], *, normalized: bool = True) -> float:
    """Entropy of the tokens' frequencies, in [0, 1] or in bits; 0 for one token or none.

    Args:
        tokens: of one text; ids or strings.
        normalized: whether to divide by log2 of their number, so that only distinct tokens give 1.
    """
    if len(tokens) <= 1:
        return 0.0
    shares = [count / len(tokens) for count in Counter(tokens).values()]
    bits = math.fsum(share * -math.log2(share) for share in shares)
    return bits / math.log2(len(tokens)) if normalized else bits


def clipped_cosine(first: Tensor, second: Tensor) -> Tensor:
    """max(0, cosine) of each pair of rows: [n, D], [n, D] -> [n] float64, in [0, 1]; 0 where a row is 0.

    Args:
        first, second: embeddings, any scale.
    """
    one, other = first.double(), second.double()
    one = one / one.abs().amax(1, keepdim=True).clamp(min=1e-300)  # squares of large numbers overflow
    other = other / other.abs().amax(1, keepdim=True).clamp(min=1e-300)
    size = one.norm(dim=1) * other.norm(dim=1)
    return ((one * other).sum(1) / torch.where(size == 0, 1.0, size)).clamp(0.0, 1.0)


def entailment_pairs(texts: Sequence[str], references: Sequence[str], *, premise: Premise) -> list[tuple[str, str]]:
    """(premise, hypothesis) of each example, for an `Entail`."""
    pairs = zip(references, texts, strict=True) if premise == "reference" else zip(texts, references, strict=True)
    return list(pairs)


def checked_entailment(label: Entailment, recall: float, *, min_recall: float = 0.1) -> Entailment | Literal["none"]:
    """The label, or "none" where text and answer share too few words (ROUGE-L recall below `min_recall`)."""
    return "none" if recall < min_recall else label


def log_truth_ratio_of_losses(
    correct: Tensor, wrong: Tensor, *, wrong_losses: Literal["arithmetic", "geometric"] = "arithmetic"
) -> Tensor:
    """Natural logarithm of each question's truth ratio: [Q, C], [Q, W] -> [Q]; above 0: wrong answers are likelier.

    Args:
        correct: [Q, C] mean negative log-probability of the right answers, in nats per token; their mean counts.
        wrong: [Q, W] the same of the wrong answers.
        wrong_losses: their mean. "arithmetic" is the geometric mean of probabilities, "geometric" is what SEPS takes:
            never larger, and 0 as soon as one loss is.

    nan stands for "no such answer" and is left out; a question without a right or without a wrong answer is nan.
    """
    if wrong_losses == "arithmetic":
        return correct.nanmean(1) - wrong.nanmean(1)
    return correct.nanmean(1) - wrong.clamp(min=0.0).log().nanmean(1).exp()  # log 0 = -inf, and its exp is 0


def forget_efficacy(values: Iterable[float]) -> float:
    """1 - mean of what is still known of the forget set, each in [0, 1].

    Raises:
        DataError: no values, or one outside [0, 1].
    """
    numbers = tuple(values)
    if not numbers or not all(0 <= number <= 1 for number in numbers):
        raise DataError(f"Forget Efficacy is of one or more numbers in [0, 1]; got {numbers}.")
    return 1 - math.fsum(numbers) / len(numbers)


# --- metrics ----------------------------------------------------------------------------------------------------------


@frozen
class TokenEntropy:
    """Mean `token_entropy` of what a model writes. Higher: less repetitive. Text without tokens counts as 0.

    Attributes:
        role: the data set.
        decoding: how the model writes.
        of: the model that is measured.
    """

    role: str = "retain"
    decoding: Greedy = field(default=Greedy(max_new_tokens=200))
    of: str = field(default="model", kw_only=True)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated})

    def __call__(self, seen: Seen) -> Score:
        written = seen[self.generated]
        if written.texts and not written.tokens:
            return Score.not_measured(
                f"the token ids of what {self.of!r} wrote for {self.role!r} are not known (texts from elsewhere)",
                "utility",
            )
        each = [token_entropy(samples[0]) for samples in written.tokens]
        return Score.mean(dict(zip(seen.ids[self.role], each, strict=True)), "utility")


@frozen
class CosineSimilarity:
    """Mean `clipped_cosine` of what a model writes and what it was before. Higher: the model knows as much as before.

    Attributes:
        embed: sentence embeddings.
        role: the data set.
        decoding: how both models write.
        before: the model whose texts are compared with. None: the reference answers.
        of: the model that is measured.
    """

    embed: Embed
    role: str = "forget"
    decoding: Greedy = field(default=Greedy(max_new_tokens=200))
    before: str | None = field(default="original", kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated, _before(self.generated, self.before)})

    def __call__(self, seen: Seen) -> Score:
        texts, references = _texts_and_references(seen, self.generated, self.before)
        if not texts:
            return Score.mean({}, "knowledge")
        ours, theirs = self.embed(texts), self.embed(references)
        for name, embedded in (("texts", ours), ("references", theirs)):
            if embedded.ndim != 2 or len(embedded) != len(texts):
                raise DataError(
                    f"`embed` gave a tensor of shape {tuple(embedded.shape)} for {len(texts)} {name} of "
                    f"{self.role!r}; it has to give one row per text: [n, D]."
                )
        each = clipped_cosine(ours, theirs)
        return Score.mean(dict(zip(seen.ids[self.role], each.tolist(), strict=True)), "knowledge")


@frozen
class EntailmentScore:
    """Share of examples whose text and answer entail one another, in one direction. Higher: the model knows more.

    Attributes:
        entail: the language inference model.
        role: the data set.
        decoding: how the model writes.
        premise: "text" on forget sets, "reference" on the retain-type sets of TOFU.
        min_recall: texts whose ROUGE-L recall of the reference answer is below count as not entailed.
        before: the model whose texts take the place of the reference answers in the pair. None: the answers.
        of: the model that is measured.
    """

    entail: Entail
    role: str = "forget"
    decoding: Greedy = field(default=Greedy(max_new_tokens=200))
    premise: Premise = field(default="text", validator=in_(get_args(Premise)), kw_only=True)
    min_recall: float = field(default=0.1, validator=[ge(0.0), le(1.0)], kw_only=True)
    before: str | None = field(default=None, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated, _before(self.generated, self.before)})

    def __call__(self, seen: Seen) -> Score:
        texts, references = _texts_and_references(seen, self.generated, self.before)
        labels = self.entail(entailment_pairs(texts, references, premise=self.premise)) if texts else []
        if len(labels) != len(texts) or not set(labels) <= set(get_args(Entailment)):
            raise DataError(
                f"`entail` gave {len(labels)} labels for {len(texts)} pairs of {self.role!r}, {sorted(set(labels))} "
                f"among them; it has to give one of {', '.join(get_args(Entailment))} for each pair."
            )
        answers = seen[self.generated].references
        each = [self._score(label, answer, text) for label, answer, text in zip(labels, answers, texts, strict=True)]
        return Score.mean(dict(zip(seen.ids[self.role], each, strict=True)), "knowledge")

    def _score(self, label: Entailment, answer: str, text: str) -> float:
        if not words(answer, stemmer=False):
            return math.nan
        recall = rouge(answer, text).recall
        return float(checked_entailment(label, recall, min_recall=self.min_recall) == "entailment")


def _before(generated: Generated, before: str | None) -> Generated:
    """The generation that is compared with: `generated` itself, which brings the reference answers, or another's."""
    return generated if before is None else Generated(generated.decoding, generated.role, of=before)


def _texts_and_references(
    seen: Seen, generated: Generated, before: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    written = seen[generated]
    return written.texts, written.references if before is None else seen[_before(generated, before)].texts


@frozen
class TruthOfLosses:
    """Mean `truth_score` over questions, with either mean over the losses of wrong answers.

    With "arithmetic" it is `TruthRatio`. Higher: as there.

    Attributes:
        truth_ratio: roles of right and wrong answers, the score per question, and the model that is measured. Its
            `wrong_reduction` is not used.
        wrong_losses: as in `log_truth_ratio_of_losses`.
    """

    truth_ratio: TruthRatio = field(default=TruthRatio())
    wrong_losses: WrongLosses = field(default="geometric", validator=in_(get_args(WrongLosses)), kw_only=True)

    @property
    def needs(self) -> Needs:
        return self.truth_ratio.needs

    def __call__(self, seen: Seen) -> Score:
        questions = question_nlls(seen, self.truth_ratio.correct_tokens, self.truth_ratio.wrong_tokens)
        log_ratios = log_truth_ratio_of_losses(questions.correct, questions.wrong, wrong_losses=self.wrong_losses)
        aggregator = self.truth_ratio.aggregator
        each = truth_score(log_ratios, aggregator=aggregator).tolist()
        return Score.mean(
            dict(zip(questions.ids, each, strict=True)),
            "forgetting" if aggregator == "closer_to_1_better" else "knowledge",
        )


@frozen
class CloserLookUtility:
    """Harmonic mean of six metrics on each set, which are its `parts`. Higher: more useful. 0 as soon as one is.

    Not measured as soon as one of them is not: the reason names it.

    Attributes:
        embed, entail: as in `CosineSimilarity` and `EntailmentScore`.
        retain: role of the retain questions; with "_paraphrased" and "_perturbed", of their other answers.
        general: roles of sets of general knowledge without paraphrases; with "_perturbed", of their wrong answers.
            Empty: utility on the retain set only.
        decoding: how the model writes.
        premise: as in `EntailmentScore`; "text" for sets of real people.
        before: as in `CosineSimilarity`.
        wrong_losses: as in `log_truth_ratio_of_losses`.
        of: the model that is measured.
    """

    embed: Embed
    entail: Entail
    retain: str = field(default="retain", kw_only=True)
    general: tuple[str, ...] = field(default=("real_authors", "world_facts"), kw_only=True)
    decoding: Greedy = field(default=Greedy(max_new_tokens=200), kw_only=True)
    premise: Premise = field(default="reference", validator=in_(get_args(Premise)), kw_only=True)
    before: str | None = field(default="original", kw_only=True)
    wrong_losses: WrongLosses = field(default="arithmetic", validator=in_(get_args(WrongLosses)), kw_only=True)
    of: str = field(default="model", kw_only=True)

    def _terms(self, role: str) -> Mapping[str, Metric]:
        correct = f"{role}_paraphrased" if role == self.retain else role
        truth_ratio = TruthRatio(role, correct=correct, aggregator="true_better", of=self.of)
        # On sets of general knowledge an answer is a name; the original's sentence about it is what is entailed.
        whole_answer = None if role == self.retain else self.before
        return {
            f"{role}_rouge": Rouge(role, self.decoding, of=self.of),
            f"{role}_probability": (Probability if role == self.retain else ProbabilityMC)(role, of=self.of),
            f"{role}_truth_ratio": TruthOfLosses(truth_ratio, wrong_losses=self.wrong_losses),
            f"{role}_token_entropy": TokenEntropy(role, self.decoding, of=self.of),
            f"{role}_cosine_similarity": CosineSimilarity(
                self.embed, role, self.decoding, before=self.before, of=self.of
            ),
            f"{role}_entailment": EntailmentScore(
                self.entail, role, self.decoding, premise=self.premise, before=whole_answer, of=self.of
            ),
        }

    @property
    def terms(self) -> Mapping[str, Metric]:
        """Six metrics of each set, by name."""
        return {name: term for role in (self.retain, *self.general) for name, term in self._terms(role).items()}

    @property
    def needs(self) -> Needs:
        return all_needs(self.terms.values())

    def __call__(self, seen: Seen) -> Score:
        parts: dict[str, float] = {}
        left_out: dict[str, None] = {}
        n = 0
        for name, term in self.terms.items():
            score = term(seen)
            if score.value is None:
                return Score.not_measured(f"{name} was not measured: {score.reason}", "utility")
            parts[name] = score.value
            left_out |= dict.fromkeys(score.left_out)
            n += score.n if name.endswith("_probability") else 0  # six terms share a set: count it once
        return Score(harmonic_mean(parts.values()), "utility", n=n, parts=parts, left_out=tuple(left_out))


@frozen
class ForgetEfficacy:
    """1 - mean of five metrics on the forget set, which are its `parts`. Higher: better forgotten.

    The part `truth_ratio` is 1 - mean min(tr, 1/tr): how far from indifferent the model is. Not measured as soon as one
    of the five is not: the reason names it.

    Attributes:
        embed, entail: as in `CosineSimilarity` and `EntailmentScore`.
        role: the forget questions; with "_paraphrased" and "_perturbed", their other answers.
        decoding: how the model writes.
        before: as in `CosineSimilarity`.
        wrong_losses: as in `log_truth_ratio_of_losses`.
        of: the model that is measured.
    """

    embed: Embed
    entail: Entail
    role: str = field(default="forget", kw_only=True)
    decoding: Greedy = field(default=Greedy(max_new_tokens=200), kw_only=True)
    before: str | None = field(default="original", kw_only=True)
    wrong_losses: WrongLosses = field(default="arithmetic", validator=in_(get_args(WrongLosses)), kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def terms(self) -> Mapping[str, Metric]:
        """The five metrics by name; the truth ratio as min(tr, 1/tr)."""
        return {
            "rouge": Rouge(self.role, self.decoding, of=self.of),
            "probability": Probability(self.role, of=self.of),
            "truth_ratio": TruthOfLosses(TruthRatio(self.role, of=self.of), wrong_losses=self.wrong_losses),
            "cosine_similarity": CosineSimilarity(self.embed, self.role, self.decoding, before=self.before, of=self.of),
            "entailment": EntailmentScore(self.entail, self.role, self.decoding, of=self.of),
        }

    @property
    def needs(self) -> Needs:
        return all_needs(self.terms.values())

    def __call__(self, seen: Seen) -> Score:
        parts: dict[str, float] = {}
        left_out: dict[str, None] = {}
        n = 0
        for name, term in self.terms.items():
            score = term(seen)
            if score.value is None:
                return Score.not_measured(f"{name} was not measured: {score.reason}", "forgetting")
            parts[name] = 1 - score.value if name == "truth_ratio" else score.value
            left_out |= dict.fromkeys(score.left_out)
            n = max(n, score.n)
        return Score(forget_efficacy(parts.values()), "forgetting", n=n, parts=parts, left_out=tuple(left_out))
