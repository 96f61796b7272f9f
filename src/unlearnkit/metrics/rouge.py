r"""ROUGE: how much of a reference text comes back in what the model writes.

    recall R = overlap / |reference|,    precision P = overlap / |hypothesis|,    f-measure = 2 P R / (P + R)

Overlap is the number of shared words ("rouge1"), of shared pairs of neighbours ("rouge2"), each counted as often as in
the text that has fewer, or the length of the longest common subsequence ("rougeL"). Words are runs of a-z and 0-9 after
lower-casing, optionally stemmed if longer than three letters.

Benchmarks differ: TOFU reports rougeL recall with stemmer, MUSE and DUSK rougeL f-measure without; OpenUnlearning's
version of MUSE has the stemmer on. All are in [0, 1]; higher: more of the reference comes back. Needs generated text.

Where it misleads: the words of the question are half of many answers; "not" is one word among many; recall rewards
whoever writes on and on; words outside a-z and 0-9 do not exist.

Paper: Lin. ROUGE: A Package for Automatic Evaluation of Summaries. Text Summarization Branches Out, 2004, W04-1013.

Checked: Google's rouge_score 0.1.2 (65 recorded pairs, and generated text); the generations recorded by
locuslab/tofu@bdc209e.

Deviations: rouge_score gives 0 to an empty reference. So do our functions, but `Rouge` counts such an example as "not
measured": text in a script other than Latin has no words here, and would otherwise look forgotten.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

from attrs import field, frozen
from attrs.validators import in_

from unlearnkit.metrics.porter import porter_stem
from unlearnkit.protocols import Generated, Greedy, Needs, Score, Seen

RougeKind = Literal["rouge1", "rouge2", "rougeL"]
"""What is counted as overlap: words, pairs of neighbours, or the longest common subsequence."""

RougeMeasure = Literal["recall", "precision", "fmeasure"]
"""What the overlap is compared with: the reference, the hypothesis, or both."""

_WORD = re.compile("[a-z0-9]+")


class Overlap(NamedTuple):
    """ROUGE of one pair of texts, each in [0, 1]."""

    precision: float
    recall: float
    fmeasure: float


def rouge(reference: str, hypothesis: str, *, kind: RougeKind = "rougeL", stemmer: bool = True) -> Overlap:
    """Overlap of a hypothesis with a reference; all 0 if either has no words."""
    ours, theirs = words(reference, stemmer=stemmer), words(hypothesis, stemmer=stemmer)
    if kind == "rougeL":
        return _overlap(common_subsequence(ours, theirs), len(ours), len(theirs))
    if kind == "rouge1":
        return _overlap((Counter(ours) & Counter(theirs)).total(), len(ours), len(theirs))
    common = Counter(pairwise(ours)) & Counter(pairwise(theirs))
    return _overlap(common.total(), len(ours) - 1, len(theirs) - 1)


def words(text: str, *, stemmer: bool) -> list[str]:
    """Runs of a-z and 0-9 of the lower-cased text; those longer than three letters stemmed on request."""
    found = _WORD.findall(text.lower())
    return [porter_stem(word) if len(word) > 3 else word for word in found] if stemmer else found


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    One row of the usual table at a time, as the bits of one integer: bit i is cleared where the table's row increases
    from first[:i] to first[:i + 1]. Hyyrö, Bit-parallel LCS-length computation revisited, AWOCA 2004.
    """
    occurrences: dict[str, int] = {}
    for i, word in enumerate(first):
        occurrences[word] = occurrences.get(word, 0) | 1 << i
    everywhere = (1 << len(first)) - 1
    flat = everywhere
    for word in second:
        matches = flat & occurrences.get(word, 0)
        flat = ((flat + matches) | (flat - matches)) & everywhere
    return len(first) - flat.bit_count()


def _overlap(common: int, reference: int, hypothesis: int) -> Overlap:
    if common == 0:
        return Overlap(0.0, 0.0, 0.0)
    precision, recall = common / hypothesis, common / reference
    return Overlap(precision, recall, 2 * precision * recall / (precision + recall))


@frozen
class Rouge:
    """Mean ROUGE of what a model writes against the reference answers. Higher: the model knows more of them.

    Attributes:
        role: the data set.
        decoding: how the model writes.
        kind: what counts as overlap.
        measure: what it is divided by.
        stemmer: whether "authors" matches "author".
        of: the model that is measured.
    """

    role: str = "forget"
    decoding: Greedy = field(default=Greedy(max_new_tokens=200))
    kind: RougeKind = field(default="rougeL", validator=in_(get_args(RougeKind)), kw_only=True)
    measure: RougeMeasure = field(default="recall", validator=in_(get_args(RougeMeasure)), kw_only=True)
    stemmer: bool = field(default=True, kw_only=True)
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
        if not words(reference, stemmer=False):
            return math.nan
        overlap = rouge(reference, text, kind=self.kind, stemmer=self.stemmer)
        match self.measure:
            case "recall":
                return overlap.recall
            case "precision":
                return overlap.precision
            case "fmeasure":
                return overlap.fmeasure
