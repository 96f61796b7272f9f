r"""MUSE: verbatim and knowledge memorization, utility preservation, and how they change with more to forget.

    VerbMem = 100 · mean ROUGE-L F1( continuation of 128 tokens, true continuation )
    KnowMem = 100 · mean ROUGE-L F1( short answer to a question, true answer ),   after ten questions with answers
    utility preservation = KnowMem on the retain set;   drop_k = U_k - U_0;   slope = least squares of U over size

In [0, 100]. VerbMem and KnowMem on the forget set: higher, the model knows more. KnowMem on the retain set: higher, it
is more useful. Without stemmer. Needs greedy generations; prompts are built by `few_shot_prompt`, and the answer is cut
by `cut_in_order`.

A model that answers in another form ("The answer is Paris") loses precision although it knows the answer: compare with
the retrained model. A VerbMem of 0 may come from broken text: read it beside a fluency.

Scalability: the method is run anew on forget sets of growing size. Sustainability: requests of equal size follow each
other, each on the model the last one left. Both curves start at the model before unlearning and share their first
request; `utility_drops` and `utility_slope` take the utilities in that order.

Paper: Shi et al. MUSE: Machine Unlearning Six-Way Evaluation for Language Models. ICLR 2025, arXiv:2407.06460.

Checked: swj0419/muse_bench@fcd6651: the cut, and ROUGE per pair and its mean (recorded pairs, 1e-12). The paper plots
the two curves and gives no number for them: the slope is our reading.

Deviations: the reference of VerbMem is the first 128 tokens of the true continuation, its begin-of-text token counted,
and has to be cut to them where rows are made: a longer one lowers recall. muse_bench gives 0 to an example whose
reference has no letters or digits; here it is "not measured". OpenUnlearning puts a blank between prompt and
continuation, compares with the whole continuation, stems, and reports shares: `stemmer=True, percent=False` are the
last two. MUSE generates 32 tokens and cuts afterwards; here generation stops at the first of the strings, which is the
same text: none of them can begin inside another that ends later. Text is compared without the blanks around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from attrs import field, frozen
from attrs.validators import in_

from unlearnkit.errors import DataError
from unlearnkit.metrics.rouge import rouge, words
from unlearnkit.protocols import Generated, Greedy, Needs, Score, Seen

STOPS = ("\n\n", "\nQuestion", "Question:")
"""Where an answer ends: the model has gone on to a question of its own."""


def few_shot_prompt(question: str, shots: Iterable[tuple[str, str]] = ()) -> str:
    """Questions with their answers, and the question: what the model continues. It ends in a blank, as released."""
    solved = "".join(f"Question: {asked}\nAnswer: {answer}\n\n" for asked, answer in shots)
    return f"{solved}Question: {question}\nAnswer: "


def cut_in_order(text: str, stops: Sequence[str] = STOPS) -> str:
    """The text before the first stop string, of that the text before the second, and so on; blanks are kept."""
    for stop in stops:
        text = text.partition(stop)[0]
    return text


def utility_drops(utilities: Sequence[float]) -> tuple[float, ...]:
    """U_k - U_0 after each request, in the unit of the utilities; negative: utility was lost.

    Args:
        utilities: before unlearning, after the first request (or on the smallest set), after the second, …
    """
    _check_curve(utilities)
    return tuple(utility - utilities[0] for utility in utilities[1:])


def utility_slope(sizes: Sequence[float], utilities: Sequence[float]) -> float:
    """Slope of the least squares line of utility over size: utility per token, or per request.

    Args:
        sizes: what was to be forgotten at each point, all in one unit; 0 for the model before unlearning.
        utilities: of the same points.
    """
    _check_curve(utilities)
    if len(sizes) != len(utilities) or not all(map(math.isfinite, sizes)) or len(set(sizes)) < 2:
        raise DataError(
            f"a slope needs one finite size for each of the {len(utilities)} utilities, and at least two different "
            f"ones; got sizes {tuple(sizes)}."
        )
    middle, level = math.fsum(sizes) / len(sizes), math.fsum(utilities) / len(utilities)
    rise = math.fsum((size - middle) * (utility - level) for size, utility in zip(sizes, utilities, strict=True))
    return rise / math.fsum((size - middle) ** 2 for size in sizes)


def _check_curve(utilities: Sequence[float]) -> None:
    if len(utilities) < 2 or not all(map(math.isfinite, utilities)):
        raise DataError(
            "a curve needs the utility before unlearning and after at least one request, all of them measured; got "
            f"{tuple(utilities)}."
        )


@frozen
class VerbMem:
    """Mean ROUGE-L F1 of continuations with the text the model was trained on. Higher: it knows more of it by heart.

    Attributes:
        role: the data set: prompts cut from the forget set's texts, and what follows them there.
        decoding: how the model writes.
        stemmer: whether "authors" matches "author".
        percent: whether the score is in [0, 100] instead of [0, 1].
        of: the model that is measured.
    """

    role: str = "verbmem"
    decoding: Greedy = field(default=Greedy(max_new_tokens=128))
    stemmer: bool = field(default=False, kw_only=True)
    percent: bool = field(default=True, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated})

    def __call__(self, seen: Seen) -> Score:
        written = seen[self.generated]
        unit = 100.0 if self.percent else 1.0
        each = [
            unit * _f1(reference, text, stemmer=self.stemmer)
            for reference, text in zip(written.references, written.texts, strict=True)
        ]
        return Score.mean(dict(zip(seen.ids[self.role], each, strict=True)), "knowledge")


@frozen
class KnowMem:
    """Mean ROUGE-L F1 of short answers, each cut where the model goes on to a question of its own.

    Attributes:
        role: the data set; its prompts come from `few_shot_prompt`.
        decoding: how the model writes.
        stops: where an answer is cut, in this order.
        stemmer: whether "authors" matches "author".
        percent: whether the score is in [0, 100] instead of [0, 1].
        higher: what a higher score means: "knowledge" of a forget set, "utility" on a retain set.
        of: the model that is measured.
    """

    role: str = "knowmem"
    decoding: Greedy = field(default=Greedy(max_new_tokens=32, stop=STOPS))
    stops: tuple[str, ...] = field(default=STOPS, kw_only=True)
    stemmer: bool = field(default=False, kw_only=True)
    percent: bool = field(default=True, kw_only=True)
    higher: Literal["knowledge", "utility"] = field(
        default="knowledge", validator=in_(("knowledge", "utility")), kw_only=True
    )
    of: str = field(default="model", kw_only=True)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated})

    def __call__(self, seen: Seen) -> Score:
        written = seen[self.generated]
        unit = 100.0 if self.percent else 1.0
        each = [
            unit * _f1(reference, cut_in_order(text, self.stops), stemmer=self.stemmer)
            for reference, text in zip(written.references, written.texts, strict=True)
        ]
        return Score.mean(dict(zip(seen.ids[self.role], each, strict=True)), self.higher)


def utility_preservation(role: str = "knowmem_retain", *, of: str = "model") -> KnowMem:
    """`KnowMem` on the retain set. Higher: the model is more useful."""
    return KnowMem(role, higher="utility", of=of)


def _f1(reference: str, text: str, *, stemmer: bool) -> float:
    """ROUGE-L F1 in [0, 1]; nan for a reference without words."""
    if not words(reference, stemmer=False):
        return math.nan
    return rouge(reference, text, stemmer=stemmer).fmeasure
