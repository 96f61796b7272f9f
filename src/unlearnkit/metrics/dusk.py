r"""DUSK: forget what only the forgotten documents say, keep what others say too.

    verbatim   of each pair (true continuation y, written x): ROUGE-L F1 · words in their longest common subsequence ·
               characters to insert, delete or replace, d(y, x) · max(0, cos(E(y), E(x)))
    knowledge  mean ROUGE-L F1 of short answers: unique to the forget set, shared, unique to the retain set
    downstream arithmetic mean of task scores

Verbatim (its ROUGE-L is the benchmark's "unlearning forget memorization") and forget-only knowledge should fall to what
the retrained model has; shared and retain-only knowledge and downstream scores should stay. Shares are in [0, 1],
subsequences in words, distances in characters. Needs greedy generations of 128 tokens after document prompts, and of 32
tokens after MUSE's few-shot prompt (`unlearnkit.metrics.muse.few_shot_prompt`, with the answers of all four roles cut
the same way); cosines need a sentence embedder, paraphrase-MiniLM-L6-v2 in the released code.

Lengths and distances grow with the texts: compare models on the same ones only. A model that writes nothing has the
distance of the whole reference, and a model that writes much more a larger one.

Paper: Jeung et al. DUSK: Do Not Unlearn Shared Knowledge. 2025, arXiv:2505.15209. Its two scores of membership
inference belong to the same suite and are not in this file.

Checked: AI-ISL/DUSK@129a0a5: all verbatim scores but the cosine (22 recorded pairs, exact); the cosine against the same
formula in recorded embeddings of sail-sg/closer-look-LLM-unlearning@b622294 (1e-6, float32 there).

Deviations: the released aggregates are called "mean_lcs_score" and "mean_levenshtein_similarity" and are mean lengths
and mean *distances*: `released_aggregates` returns them so. `Verbatim` calls each quantity by its name, and adds the
two shares: subsequence over the longer text, which the released code prepares and does not use, and 1 - d over the
longer text, which it only logs. An example with an empty reference (for ROUGE-L: without letters or digits) is "not
measured"; the released code gives it 0, or the distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from attrs import Attribute, field, frozen
from attrs.validators import in_
from torch import Tensor

from unlearnkit.errors import DataError
from unlearnkit.metrics.muse import KnowMem
from unlearnkit.metrics.rouge import common_subsequence, rouge, words
from unlearnkit.protocols import Direction, Embed, Generated, Greedy, Needs, Score, Seen

VerbatimMeasure = Literal["rougeL", "lcs_length", "lcs_share", "edit_distance", "edit_similarity", "cosine"]
"""How a continuation is compared with the true one; "edit_distance" is the only one that grows with forgetting."""


class VerbatimScores(NamedTuple):
    """What can be said of one pair of texts without an embedder.

    Attributes:
        rougeL: F1, in [0, 1], without stemmer.
        lcs_length: words of the longest common subsequence; words are what white space separates, as they are.
        lcs_share: that, over the words of the longer text; in [0, 1].
        edit_distance: Levenshtein distance, in characters.
        edit_similarity: 1 - that over the characters of the longer text; in [0, 1], 1 for two empty texts.
    """

    rougeL: float
    lcs_length: int
    lcs_share: float
    edit_distance: int
    edit_similarity: float


def verbatim_scores(reference: str, text: str) -> VerbatimScores:
    """Every score of a pair of texts that needs no embedder."""
    ours, theirs = reference.split(), text.split()
    common, distance = common_subsequence(ours, theirs), edit_distance(reference, text)
    return VerbatimScores(
        rouge(reference, text, stemmer=False).fmeasure,
        common,
        common / max(len(ours), len(theirs), 1),
        distance,
        1 - distance / max(len(reference), len(text), 1),
    )


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance in code points: fewest insertions, deletions and replacements.

    One row of the usual table at a time: bits say where it rises and where it falls. Hyyrö, A Bit-Vector Algorithm for
    Computing Levenshtein and Damerau Edit Distances, Nordic Journal of Computing 2003.
    """
    if not first:
        return len(second)
    occurrences: dict[str, int] = {}
    for i, character in enumerate(first):
        occurrences[character] = occurrences.get(character, 0) | 1 << i
    everywhere, last = (1 << len(first)) - 1, 1 << (len(first) - 1)
    rises, falls, distance = everywhere, 0, len(first)
    for character in second:
        matches = occurrences.get(character, 0)
        diagonal = (((matches & rises) + rises) ^ rises) | matches | falls
        up, down = falls | (everywhere & ~(diagonal | rises)), rises & diagonal
        distance += bool(up & last) - bool(down & last)
        up, down = (up << 1) | 1, down << 1
        rises = (down | ~(diagonal | up)) & everywhere
        falls = up & diagonal & everywhere
    return distance


def floored_cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of each pair of rows, 0 where it is negative or a row is 0: [n, D], [n, D] -> [n] float64, in [0, 1]."""
    one, other = (
        torch.where(length == 0, 0.0, rows / length)
        for rows in (first.double(), second.double())
        for length in (torch.linalg.vector_norm(rows, dim=1, keepdim=True),)
    )
    return (one * other).sum(1).clamp(min=0.0, max=1.0)


def released_aggregates(references: Sequence[str], texts: Sequence[str]) -> dict[str, float]:
    """Means over pairs under the names of the released code, which calls lengths a score and distances a similarity."""
    if not references or len(references) != len(texts):
        raise DataError(f"each text needs a reference: got {len(references)} references and {len(texts)} texts.")
    each = [verbatim_scores(reference, text) for reference, text in zip(references, texts, strict=True)]
    return {
        "mean_rougeL": math.fsum(scores.rougeL for scores in each) / len(each),
        "mean_lcs_score": sum(scores.lcs_length for scores in each) / len(each),
        "mean_levenshtein_similarity": sum(scores.edit_distance for scores in each) / len(each),
    }


def downstream_mean(scores: Mapping[str, float]) -> float:
    """Arithmetic mean of the main score of each downstream task, in the unit of the scores."""
    if not scores or not all(map(math.isfinite, scores.values())):
        raise DataError(f"a downstream mean needs at least one task, all of them measured; got {dict(scores)}.")
    return math.fsum(scores.values()) / len(scores)


def _embedder_given(metric: Verbatim, attribute: Attribute[Embed | None], embed: Embed | None) -> None:
    if metric.measure == "cosine" and embed is None:
        raise DataError("Verbatim(measure='cosine') compares sentence embeddings: pass embed=..., or another measure.")


@frozen
class Verbatim:
    """Mean comparison of continuations with the text the model was trained on.

    Higher: the model knows more by heart; of "edit_distance", less.

    Attributes:
        role: the data set: prompts cut from the forgotten documents, and what follows them there.
        decoding: how the model writes.
        measure: how texts are compared.
        embed: sentence embedder, for "cosine".
        of: the model that is measured.
    """

    role: str = "verbatim"
    decoding: Greedy = field(default=Greedy(max_new_tokens=128))
    measure: VerbatimMeasure = field(default="rougeL", validator=in_(get_args(VerbatimMeasure)), kw_only=True)
    embed: Embed | None = field(default=None, validator=_embedder_given, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated})

    def __call__(self, seen: Seen) -> Score:
        written = seen[self.generated]
        direction: Direction = "forgetting" if self.measure == "edit_distance" else "knowledge"
        each = self._each(written.references, written.texts)
        return Score.mean(dict(zip(seen.ids[self.role], each, strict=True)), direction)

    def _each(self, references: Sequence[str], texts: Sequence[str]) -> list[float]:
        if self.measure == "cosine":
            values = self._cosines(references, texts)
        else:
            pairs = zip(references, texts, strict=True)
            values = [float(getattr(verbatim_scores(*pair), self.measure)) for pair in pairs]
        return [
            value if self._has_content(reference) else math.nan
            for reference, value in zip(references, values, strict=True)
        ]

    def _has_content(self, reference: str) -> bool:
        return bool(words(reference, stemmer=False) if self.measure == "rougeL" else reference.strip())

    def _cosines(self, references: Sequence[str], texts: Sequence[str]) -> list[float]:
        unique = list(dict.fromkeys([*references, *texts]))
        if self.embed is None or not unique:
            return []
        embeddings = self.embed(unique)
        if embeddings.ndim != 2 or len(embeddings) != len(unique):
            raise DataError(
                f"Verbatim.embed has to return one row for each of {len(unique)} texts, [n, D]; "
                f"got a tensor of shape {tuple(embeddings.shape)}."
            )
        at = {text: number for number, text in enumerate(unique)}
        ours, theirs = ([at[text] for text in side] for side in (references, texts))
        return floored_cosines(embeddings[ours], embeddings[theirs]).tolist()


def unique_forget_knowledge(role: str = "unique_forget_qa", *, of: str = "model") -> KnowMem:
    """What only the forgotten documents say, in [0, 1]. Higher: the model knows more of it."""
    return KnowMem(role, percent=False, of=of)


def shared_knowledge(role: str = "shared_qa", *, of: str = "model") -> KnowMem:
    """What forgotten and retained documents say alike, in [0, 1]. Higher: the model is more useful."""
    return KnowMem(role, percent=False, higher="utility", of=of)


def unique_retain_knowledge(role: str = "unique_retain_qa", *, of: str = "model") -> KnowMem:
    """What only the retained documents say, in [0, 1]. Higher: the model is more useful."""
    return KnowMem(role, percent=False, higher="utility", of=of)
