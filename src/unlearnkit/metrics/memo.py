r"""MEMO: how much of an example a model completes, wherever in the text it is cut off.

    cuts at characters c = 1, 1 + s, 1 + 2s, … of the answer ("suffix") or of the question ("prefix")
    suffix:  prompt = question + " " + answer[:c]     target = answer[c:]
    prefix:  prompt = question[:c]                    target = question[c:] + " " + answer
    MEMO = mean over cuts of ROUGE-1 precision of what the model writes greedily, against the target

In [0, 1]; higher: the model knows more. It needs a generation of up to 200 tokens per cut, of plain text: no chat
template comes between the parts. The authors use it with s = 5 to choose which wrong answers to train on.

Where it misleads: precision is high for a model that writes one word of the target and stops, and low for one that
completes the target and goes on; a cut inside a word asks for its rest. A target without any a-z or 0-9 scores 0.

Paper: Gu, Huang, Luo, Yao, Yang, Teng, Wang. MEOW: MEMOry Supervised LLM Unlearning Via Inverted Facts. 2024,
arXiv:2409.11844.

Checked: Carol-gutianle/MEOW@1ee8aef, prompts, targets and scores (1e-9).

Deviations:
    1. The paper speaks of ROUGE-N; the released code takes precision with the stemmer, and so do we by default.
    2. The released code decodes the whole sequence, special tokens included, and removes the prompt from it wherever it
       occurs: "<s>" and "</s>" become words of the hypothesis and lower precision, and a model that writes nothing may
       score above 0. We score what was written after the prompt; `released_output` gives what they score.
    3. The released code gives 0 to an example without cuts (an answer, or in "prefix" mode a question, of one character
       or none). Such an example is not measured here; nor, by `Memo`, is one whose targets are all without words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from attrs import field, frozen
from attrs.validators import in_
from transformers import PreTrainedTokenizerBase

from unlearnkit.batch import IGNORE, Row
from unlearnkit.errors import DataError
from unlearnkit.metrics.rouge import RougeKind, RougeMeasure, rouge, words
from unlearnkit.protocols import Generated, Greedy, Needs, Score, Seen

MemoMode = Literal["suffix", "prefix"]
"""What is cut: the answer, with the whole question before it, or the question."""


class Cut(NamedTuple):
    """An example cut in two: what the model reads, and what it is to write."""

    prompt: str
    target: str


def memo_cuts(question: str, answer: str, *, mode: MemoMode = "suffix", stride: int = 5) -> list[Cut]:
    """All cuts of an example, in order; none if what is cut has fewer than two characters.

    Args:
        question, answer: the example.
        mode: which of the two is cut.
        stride: characters from one cut to the next.
    """
    if stride < 1:
        raise DataError(f"stride is {stride}; cuts are at least 1 character apart.")
    if mode == "suffix":
        return [Cut(f"{question} {answer[:at]}", answer[at:]) for at in range(1, len(answer), stride)]
    return [Cut(question[:at], f"{question[at:]} {answer}") for at in range(1, len(question), stride)]


def memo(
    targets: Sequence[str],
    outputs: Sequence[str],
    *,
    kind: RougeKind = "rouge1",
    measure: RougeMeasure = "precision",
    stemmer: bool = True,
) -> float:
    """Mean ROUGE over the cuts of one example, in [0, 1]; nan without any.

    Args:
        targets: what is to be written, per cut.
        outputs: what was written, without the prompt.
        kind, measure, stemmer: see `Rouge`.
    """
    if len(targets) != len(outputs):
        raise DataError(f"there are {len(targets)} targets, but {len(outputs)} outputs. Pass one output per cut.")
    pairs = zip(targets, outputs, strict=True)
    overlaps = [rouge(target, output, kind=kind, stemmer=stemmer) for target, output in pairs]
    if not overlaps:
        return math.nan
    return math.fsum(overlap._asdict()[measure] for overlap in overlaps) / len(overlaps)


def released_output(prompt: str, written: str, *, begin: str = "<s> ", end: str = "</s>") -> str:
    """What the released code scores: the whole decoded sequence, with the prompt taken out wherever it occurs.

    Args:
        prompt, written: what the model read, and what it wrote.
        begin, end: the tokenizer's special tokens, as it decodes them.
    """
    return f"{begin}{prompt}{written}{end}".replace(prompt, "")


def memo_rows(
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    answer: str,
    *,
    id: str,
    role: str,
    mode: MemoMode = "suffix",
    stride: int = 5,
) -> tuple[Row, ...]:
    """One row per cut, whose prompt and answer are tokenised apart: a cut inside a word stays where it is.

    Ids are "id@0", "id@1" …, and all rows are of the group `id`. The prompt gets the special tokens that the tokenizer
    puts before a text, the target gets none.

    Raises:
        DataError: no token is left of a prompt or of a target.
    """
    rows = []
    for number, (prompt, target) in enumerate(memo_cuts(question, answer, mode=mode, stride=stride)):
        before: list[int] = list(tokenizer(prompt, return_attention_mask=False)["input_ids"])
        after: list[int] = list(tokenizer(target, add_special_tokens=False, return_attention_mask=False)["input_ids"])
        if not before or not after:
            raise DataError(
                f"cut {number} of example {id!r} has {len(before)} prompt tokens ({prompt[:40]!r}) and {len(after)} "
                f"target tokens ({target[:40]!r}); it needs at least one of each. Strip white space from the example."
            )
        input_ids = torch.tensor(before + after)
        labels = input_ids.clone()
        labels[: len(before)] = IGNORE
        rows.append(Row(f"{id}@{number}", role, {"input_ids": input_ids}, labels, group=id))
    return tuple(rows)


@frozen
class Memo:
    """Mean `memo` over examples. Higher: the model knows more of them.

    Attributes:
        role: the rows made by `memo_rows`; those of an example share a `group`, whose name is the example's id.
        decoding: how the model writes.
        kind: what counts as overlap.
        measure: what it is divided by.
        stemmer: whether "authors" matches "author".
        of: the model that is measured.
    """

    role: str = "forget_cuts"
    decoding: Greedy = field(default=Greedy(max_new_tokens=200))
    kind: RougeKind = field(default="rouge1", validator=in_(get_args(RougeKind)), kw_only=True)
    measure: RougeMeasure = field(default="precision", validator=in_(get_args(RougeMeasure)), kw_only=True)
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
        by_example: dict[str, list[tuple[str, str]]] = {}
        pairs = zip(written.references, written.texts, strict=True)
        for example, pair in zip(seen.groups[self.role], pairs, strict=True):
            by_example.setdefault(example, []).append(pair)
        return Score.mean({example: self._score(pairs) for example, pairs in by_example.items()}, "knowledge")

    def _score(self, pairs: Sequence[tuple[str, str]]) -> float:
        targets, outputs = [target for target, _ in pairs], [output for _, output in pairs]
        if not any(words(target, stemmer=False) for target in targets):
            return math.nan
        return memo(targets, outputs, kind=self.kind, measure=self.measure, stemmer=self.stemmer)
