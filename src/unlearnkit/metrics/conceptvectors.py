r"""ConceptVectors: is the column of an MLP that writes a concept still there after unlearning?

A concept vector v is one column of a down projection; it promotes the tokens that are the largest of E v, with E the
output embedding. Before (v, E) and after unlearning (v', E'):

    cosine  = v·v' / (|v| |v'|)                 L2 = |v - v'|
    Jaccard = |S ∩ S'| / |S ∪ S'|,              S, S': the strings of the 200 largest entries of E v and of E' v'
    article rate  = tokens of S' in the concept's article / those of S        (counts; may exceed 1)
    survival rate = tokens of S' among those of S in the article / those of S in the article

An identical vector has cosine 1, L2 0, Jaccard 1. These are *intrinsic*: high cosine and Jaccard and a small L2 mean
that the knowledge is still in the parameters, however the model behaves. Behaviour is measured by BLEU and ROUGE-L
f-measure of what the model writes against what the original wrote; on questions about the concept higher means more
knowledge, on unrelated ones more utility.

Needs: weights before and after for the intrinsic metrics (plain functions), generated text for behaviour.

Known failure modes: knowledge may sit elsewhere than in this column; noise in v moves cosine and L2 long before it
changes the tokens; agreement with the original's text says nothing about whether that was right.

Paper: Hong, Yu, Yang, Ravfogel, Geva. Intrinsic Test of Unlearning Using Parametric Knowledge Traces. 2024,
arXiv:2406.11614.

Checked: yihuaihong/ConceptVectors@607591b with nltk 3.10 and rouge 1.0.1 (text 1e-9; vectors, float32 there, 1e-5).

Deviations: the released code passes the unlearned model's text as BLEU's reference and the original's as the
candidate, so that brevity is punished on the wrong side: `original_as_candidate=True`. Its rates divide by zero where
no token of S is in the article; ours are nan. Ties of E v are ordered as sorting happens to; here the smaller id goes
first. It scores an example whose texts are empty 0; an empty text of the original is "not measured" here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from attrs import field, frozen
from attrs.validators import in_
from torch import Tensor

from unlearnkit.errors import DataError
from unlearnkit.metrics.rouge_words import rouge_words, sentences
from unlearnkit.protocols import Generated, Greedy, Needs, Score, Seen

# --- the vector -------------------------------------------------------------------------------------------------------


def vector_cosine(before: Tensor, after: Tensor) -> Tensor:
    """Cosine of two vectors: [D], [D] -> [], float64, in [-1, 1]; 0 if one of them is zero."""
    cosine = torch.nn.functional.cosine_similarity(before.double(), after.double(), dim=-1)
    return torch.clamp(cosine, -1.0, 1.0)


def vector_distance(before: Tensor, after: Tensor) -> Tensor:
    """Euclidean distance of two vectors: [D], [D] -> [], float64."""
    distance: Tensor = torch.linalg.vector_norm(before.double() - after.double(), dim=-1)
    return distance


def projected_tokens(vector: Tensor, head: Tensor, *, k: int = 200) -> Tensor:
    """Ids of the k tokens that a vector promotes most: [D], [V, D] -> [min(k, V)] int64, the largest first.

    Without final norm and bias, in float32 at least; equal entries in the order of their ids.
    """
    precision = torch.promote_types(torch.float32, torch.promote_types(head.dtype, vector.dtype))
    return (head.to(precision) @ vector.to(precision)).sort(descending=True, stable=True).indices[:k]


def jaccard(first: Collection[str], second: Collection[str]) -> float:
    """Size of the intersection over that of the union of two sets of tokens, in [0, 1]; nan if both are empty."""
    union = set(first) | set(second)
    return len(set(first) & set(second)) / len(union) if union else math.nan


def article_tokens(article: Sequence[str], stopwords: Collection[str]) -> frozenset[str]:
    """The tokens of an article without stop words, which are compared in lower case."""
    return frozenset(token for token in article if token.lower() not in stopwords)


def article_rate(before: Sequence[str], after: Sequence[str], article: Collection[str]) -> float:
    """Number of projected tokens that occur in the article, after / before; nan if there were none before."""
    related = sum(token in article for token in before)
    return sum(token in article for token in after) / related if related else math.nan


def survival_rate(before: Sequence[str], after: Sequence[str], article: Collection[str]) -> float:
    """Share of the projected tokens that occur in the article and are still projected; nan if there were none.

    Counted as released: tokens after that are among those, with repetitions, over those before, with repetitions.
    """
    related = [token for token in before if token in article]
    return sum(token in set(related) for token in after) / len(related) if related else math.nan


class ConceptTrace(NamedTuple):
    """What is left of a concept vector.

    Attributes:
        cosine, distance, jaccard: of the vectors and of their tokens.
        article_rate, survival_rate: of tokens in the concept's article; nan without an article.
    """

    cosine: float
    distance: float
    jaccard: float
    article_rate: float
    survival_rate: float


def concept_trace(
    vocabulary: Sequence[str],
    before: Tensor,
    after: Tensor,
    *,
    head_before: Tensor,
    head_after: Tensor,
    article: Collection[str] = (),
    k: int = 200,
) -> ConceptTrace:
    """The intrinsic metrics of one concept.

    Args:
        vocabulary: the string of each token id.
        before, after: [D] the column in the original and in the unlearned model.
        head_before, head_after: [V, D] output embeddings of the original and of the unlearned model.
        article: tokens of the concept's article; see `article_tokens`.
        k: how many tokens are projected.

    Raises:
        DataError: vectors, heads and vocabulary do not fit.
    """
    for name, vector, head in (("before", before, head_before), ("after", after, head_after)):
        if vector.dim() != 1 or head.shape[1:] != vector.shape or len(head) > len(vocabulary):
            raise DataError(
                f"{name} is {list(vector.shape)}, head_{name} {list(head.shape)}, and there are {len(vocabulary)} "
                "strings: give [D], [V, D], and a string for each of V tokens. A column of `down_proj.weight` is "
                "weight[:, column]."
            )
    first, second = (
        [vocabulary[token] for token in projected_tokens(vector, head, k=k).tolist()]
        for vector, head in ((before, head_before), (after, head_after))
    )
    return ConceptTrace(
        float(vector_cosine(before, after)),
        float(vector_distance(before, after)),
        jaccard(first, second),
        article_rate(first, second, article),
        survival_rate(first, second, article),
    )


# --- behaviour --------------------------------------------------------------------------------------------------------


def bleu(reference: str, candidate: str) -> float:
    """BLEU-4 of one sentence with words split at white space, in [0, 1].

    The geometric mean of the shares of the candidate's n-grams (n = 1 to 4) that are in the reference, each counted at
    most as often as there, times exp(1 - |reference| / |candidate|) if the candidate is shorter. 0 without a common
    word. The first share that is 0 counts as 1/2 n-gram, the next as 1/4, and so on (smoothing method 3 of Chen and
    Cherry, 2014); where the candidate has no n-grams, it counts as having one.
    """
    theirs, ours = reference.split(), candidate.split()
    if not set(theirs) & set(ours):
        return 0.0
    nats, smoothing = 0.0, 1.0
    for n in range(1, 5):
        in_reference, in_candidate = _ngrams(theirs, n), _ngrams(ours, n)
        common = float((in_reference & in_candidate).total())
        if common == 0:
            smoothing /= 2
            common = smoothing
        nats += math.log(common / max(in_candidate.total(), 1)) / 4
    return math.exp(nats + min(0.0, 1 - len(theirs) / len(ours)))


def _ngrams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


def rouge_l(reference: str, candidate: str) -> float:
    """ROUGE-L f-measure over distinct words (`rouge_words`), in [0, 1); 0 if a text has no sentence."""
    if not sentences(reference) or not sentences(candidate):
        return 0.0
    return rouge_words(reference, candidate, kind="rougeL").fmeasure


Similarity = Literal["bleu", "rouge_l"]
"""How two texts are compared."""


@frozen
class ConceptBehaviour:
    """Mean similarity of what a model writes with what the original wrote to the same prompts.

    Higher: on questions about the concept the model knows more, on unrelated ones it is more useful. Examples to which
    the original wrote nothing are left out.

    Attributes:
        role: the prompts.
        similarity: BLEU or ROUGE-L f-measure.
        higher: what a higher score means: "knowledge" of the concept, "utility" on unrelated questions.
        original_as_candidate: whether the original's text is BLEU's candidate instead of its reference.
        decoding: how both models write.
        of: the model that is measured.
        original: the model before unlearning.
    """

    role: str = "forget"
    similarity: Similarity = field(default="rouge_l", validator=in_(get_args(Similarity)), kw_only=True)
    higher: Literal["knowledge", "utility"] = field(
        default="knowledge", validator=in_(("knowledge", "utility")), kw_only=True
    )
    original_as_candidate: bool = field(default=False, kw_only=True)
    decoding: Greedy = field(default=Greedy(max_new_tokens=100), kw_only=True)
    of: str = field(default="model", kw_only=True)
    original: str = field(default="original", kw_only=True)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def before(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.original)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated, self.before})

    def __call__(self, seen: Seen) -> Score:
        pairs = zip(seen[self.before].texts, seen[self.generated].texts, strict=True)
        each = [self._compared(before, after) for before, after in pairs]
        return Score.mean(dict(zip(seen.ids[self.role], each, strict=True)), self.higher)

    def _compared(self, before: str, after: str) -> float:
        if not before.strip():
            return math.nan
        reference, candidate = (after, before) if self.original_as_candidate else (before, after)
        return bleu(reference, candidate) if self.similarity == "bleu" else rouge_l(reference, candidate)
