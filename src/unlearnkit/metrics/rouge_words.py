r"""ROUGE over distinct words, as Python's `rouge` package counts it: case and punctuation matter, repetition does not.

    rouge1, rouge2:  |A ∩ B| / |A| and / |B|,  A, B: the sets of words (of pairs of neighbours) of the two texts
    rougeL:          |U| / |A| and / |B|,      U: the words of one longest common subsequence of every sentence pair
    f-measure = 2 P R / (P + R + 1e-8)

Words are what white space separates, after the text was cut at every full stop into "sentences" ("3.5" is two of them)
and the full stops were dropped. Subsequences are found per pair of sentences and united; neighbours may sit on either
side of a full stop. In [0, 1]; higher: more of the reference comes back. Needs generated text only.

RWKU reports rougeL recall of it, ConceptVectors rougeL f-measure; nearly everyone else uses `unlearnkit.metrics.rouge`,
whose numbers differ: here "Paris" does not match "Paris," nor "The" "the", and one right word repeated ten times is
still one word.

Paper: Lin. ROUGE: A Package for Automatic Evaluation of Summaries. Text Summarization Branches Out, 2004, W04-1013.
This way of counting is the package's own.

Checked: the package rouge 1.0.1, 65 recorded pairs to 1e-12.

Deviations: none in `rouge_words`, which refuses a text without any sentence as the package does. The package recurses
once per word and gives up on sentences of about a thousand; ours does not. `RougeWords` gives 0 to an empty text, as
ConceptVectors does, and counts an example with an empty reference as "not measured". Several longest subsequences can
hold different words: which one counts is the package's choice, and swapping the two texts can change it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence, Set
from itertools import pairwise
from typing import get_args

from attrs import field, frozen
from attrs.validators import in_

from unlearnkit.errors import DataError
from unlearnkit.metrics.rouge import Overlap, RougeKind, RougeMeasure
from unlearnkit.protocols import Generated, Greedy, Needs, Score, Seen


def rouge_words(reference: str, hypothesis: str, *, kind: RougeKind = "rougeL") -> Overlap:
    """Overlap of a hypothesis with a reference, in distinct words, each number in [0, 1].

    Raises:
        DataError: one of the texts has no sentence: it is empty, or consists of full stops.
    """
    theirs, ours = sentences(hypothesis), sentences(reference)
    for name, found, text in (("hypothesis", theirs, hypothesis), ("reference", ours, reference)):
        if not found:
            raise DataError(
                f"the {name} {text!r} is empty, and this ROUGE is not defined for it. Put another text in its place "
                "(RWKU writes 'NOANSWER'), or leave the pair out."
            )
    mine, other = _words(ours), _words(theirs)
    if kind == "rougeL":
        return _overlap(len(_united_subsequences(ours, theirs)), set(mine), set(other))
    if kind == "rouge1":
        return _overlap(len(set(mine) & set(other)), set(mine), set(other))
    pairs, other_pairs = set(pairwise(mine)), set(pairwise(other))
    return _overlap(len(pairs & other_pairs), pairs, other_pairs)


def sentences(text: str) -> list[list[str]]:
    """The words of each stretch between full stops; one of white space holds one empty word, as released."""
    return [stretch.split() or [""] for stretch in text.split(".") if stretch]


def a_common_subsequence(reference: Sequence[str], hypothesis: Sequence[str]) -> list[str]:
    """One of the longest common subsequences: walking back from both ends, a word of the hypothesis is dropped first.

    Rows of the usual table are kept as the bits of one integer each: bit i of row j is 0 where reference[:i + 1] and
    hypothesis[:j] have a longer common subsequence than reference[:i]. Hyyrö, Bit-parallel LCS-length computation
    revisited, AWOCA 2004.
    """
    occurrences: dict[str, int] = {}
    for i, word in enumerate(reference):
        occurrences[word] = occurrences.get(word, 0) | 1 << i
    everywhere = (1 << len(reference)) - 1
    rows = [everywhere]
    for word in hypothesis:
        matches = rows[-1] & occurrences.get(word, 0)
        rows.append(((rows[-1] + matches) | (rows[-1] - matches)) & everywhere)

    def length(i: int, j: int) -> int:
        return i - (rows[j] & ((1 << i) - 1)).bit_count()

    found: list[str] = []
    i, j = len(reference), len(hypothesis)
    while i and j:
        if reference[i - 1] == hypothesis[j - 1]:
            found.append(reference[i - 1])
            i, j = i - 1, j - 1
        elif length(i - 1, j) > length(i, j - 1):
            i -= 1
        else:
            j -= 1
    return found[::-1]


def _united_subsequences(reference: list[list[str]], hypothesis: list[list[str]]) -> set[str]:
    return {word for ours in reference for theirs in hypothesis for word in a_common_subsequence(ours, theirs)}


def _words(stretches: list[list[str]]) -> list[str]:
    return [word for stretch in stretches for word in stretch]


def _overlap(common: int, reference: Set[Hashable], hypothesis: Set[Hashable]) -> Overlap:
    precision = common / len(hypothesis) if hypothesis else 0.0
    recall = common / len(reference) if reference else 0.0
    return Overlap(precision, recall, 2.0 * ((precision * recall) / (precision + recall + 1e-8)))


@frozen
class RougeWords:
    """Mean `rouge_words` of what a model writes against the reference answers. Higher: the model knows more of them.

    Attributes:
        role: the data set.
        decoding: how the model writes.
        kind: what counts as overlap.
        measure: what it is divided by. "recall" as in RWKU, "fmeasure" as in ConceptVectors.
        of: the model that is measured.
    """

    role: str = "forget"
    decoding: Greedy = field(default=Greedy(max_new_tokens=30, stop=("\n",)))
    kind: RougeKind = field(default="rougeL", validator=in_(get_args(RougeKind)), kw_only=True)
    measure: RougeMeasure = field(default="recall", validator=in_(get_args(RougeMeasure)), kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated})

    def __call__(self, seen: Seen) -> Score:
        written = seen[self.generated]
        each = (self._score(reference, text) for reference, text in zip(written.references, written.texts, strict=True))
        return Score.mean(dict(zip(seen.ids[self.role], each, strict=True)), "knowledge")

    def _score(self, reference: str, text: str) -> float:
        if not any(_words(sentences(reference))):
            return math.nan
        if not sentences(text):
            return 0.0
        overlap = rouge_words(reference, text, kind=self.kind)
        match self.measure:
            case "recall":
                return overlap.recall
            case "precision":
                return overlap.precision
            case "fmeasure":
                return overlap.fmeasure
