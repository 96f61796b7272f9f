r"""ICUL: unlearn in the context. What is to be forgotten is shown with a wrong label, other examples with their own.

    x_f   flipped label          each example that is to be forgotten
    x_1   y_1                    s others, with the labels they were trained with
    ...
    x_s   y_s
    x                            what is asked

The model stays as it is, and so does the context, whoever asks: `icul` puts it before every row. In question answering
the label is the answer, and flipping it means a wrong answer of the same form, one of those given, drawn by the seed.

Score of a prediction, over the whole vocabulary, as likelihood-ratio attacks use it:

    score(y) = log p_y - log sum_{v != y} p_v

Needs a model that learns from its context; one that does not is only disturbed by it. The context tells whoever reads it
what was to be forgotten, and every request makes it longer. Knowledge stays in the weights.

Paper: Pawelczyk, Neel, Lakkaraju. In-Context Unlearning: Language Models as Few Shot Unlearners. ICML 2024,
arXiv:2310.07579.

Checked: MartinPawel/In-Context-Unlearning@e740b1d, the order of lines and labels in its four styles, for one example and
for several, and the score.

Deviations:
    1. The released n_ctxt counts the line of the forgotten example; `others` does not, as in the paper.
    2. There the other examples are drawn from all training data, the forgotten one not excluded; here it is, and so is
       everything else that is to be forgotten.
    3. The released score adds 1e-35 to both probabilities before the logarithm; here they are taken in log space.
    4. Released for two classes; `wrong` generalises it to many, and to answers in words.
    5. The released code shuffles anew for each point; here the draw depends on `seed` alone.
    6. Released for plain text. With a chat template that begins with a system turn of its own every line repeats it: pass
       a `template` without one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import torch
from attrs import Attribute, field, frozen
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.batch import Template, template_of
from unlearnkit.decoding.guardrail_baselines import put_before
from unlearnkit.errors import DataError
from unlearnkit.models.prefixed import Prefixed
from unlearnkit.protocols import Model

Style = Literal["vary", "ablation-correct", "ablation-exchange", "ablation-rep"]
"""The method; the same without flipping; another example flipped in place of each; the same example over and over."""


def lira_score(log_probs: Tensor, label: Tensor) -> Tensor:
    """log p of a label - log of all other probability: [..., V], [...] int64 -> [...]; the logit of p_label.

    A constant added to `log_probs` changes nothing, so raw logits will do.
    """
    own = log_probs.gather(-1, label[..., None])[..., 0]
    return own - log_probs.scatter(-1, label[..., None], -torch.inf).logsumexp(-1)


def _all_wrong(example: Example, _: Attribute[tuple[str, ...]], wrong: tuple[str, ...]) -> None:
    if example.label in wrong:
        raise DataError(
            f"{example.label!r} is the right label of {example.text[:40]!r}, and listed among the wrong ones."
        )


@frozen
class Example:
    """A text with its label, or a question with its answer.

    Attributes:
        text: what is asked.
        label: what was taught.
        wrong: what could stand in its place and is wrong: the other class, wrong answers of the same form.
    """

    text: str
    label: str
    wrong: tuple[str, ...] = field(default=(), converter=tuple[str, ...], validator=_all_wrong)


Line = tuple[str, str]
"""A line of the context: a text, and the label that is claimed."""


def flipped(example: Example, *, seed: int = 0) -> Line:
    """An example with a label that is wrong; which of several depends on the seed and the text.

    Raises:
        DataError: no wrong label was given.
    """
    if not example.wrong:
        raise DataError(f"no wrong label was given for {example.text[:60]!r}. Pass Example(..., wrong=(...,)).")
    return example.text, random.Random(f"{seed} {example.text}").choice(example.wrong)


def context(
    forget: Sequence[Example],
    pool: Sequence[Example],
    *,
    others: int,
    style: Style = "vary",
    flip: Literal["first", "last"] = "first",
    seed: int = 0,
) -> tuple[Line, ...]:
    """The lines before what is asked.

    Args:
        forget: what is to be forgotten, in the order of the requests.
        pool: what other examples are drawn from, without replacement; what is to be forgotten is left out.
        others: s, how many; in "ablation-rep" how often each forgotten example is repeated.
        style: see `Style`.
        flip: which copy is flipped in "ablation-rep".
        seed: of the draws.

    Raises:
        DataError: nothing to forget, no wrong label, or a pool that is too small.
    """
    if not forget:
        raise DataError("there is nothing to forget: pass at least one example.")
    if others < 0:
        raise DataError(f"others is {others}; it counts lines of the context and cannot be negative.")
    if style == "ablation-rep":
        place = 0 if flip == "first" else others
        return tuple(
            flipped(example, seed=seed) if copy == place else (example.text, example.label)
            for example in forget
            for copy in range(others + 1)
        )
    asked = {example.text.strip() for example in forget}
    free = [example for example in pool if example.text.strip() not in asked]
    exchanged = len(forget) if style == "ablation-exchange" else 0
    if len(free) < others + exchanged:
        raise DataError(
            f"{others + exchanged} examples are to be drawn, and the pool holds {len(free)} beside what is to be "
            "forgotten. Give it more, or ask for fewer others."
        )
    drawn = random.Random(seed).sample(free, others + exchanged)
    first = drawn[:exchanged] if exchanged else forget
    keep = style == "ablation-correct"
    return (
        *((example.text, example.label) if keep else flipped(example, seed=seed) for example in first),
        *((example.text, example.label) for example in drawn[exchanged:]),
    )


def classification_text(lines: Sequence[Line], query: str) -> str:
    """Context and query for a classifier: a text, a blank and its label on each line, and the query without one."""
    return "".join(f"{text} {label}\n" for text, label in lines) + query


def icul(
    model: Model | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    forget: Sequence[Example],
    pool: Sequence[Example],
    *,
    others: int = 3,
    style: Style = "vary",
    seed: int = 0,
    template: Template | None = None,
) -> Prefixed:
    """A model that reads the context before every row.

    Each line is written as the template writes a question with its answer. The context costs every row its tokens: it has
    to fit in the model's positions together with the longest row.

    Args:
        model: the model inside.
        tokenizer: of the model.
        forget, pool, others, style, seed: see `context`.
        template: how questions are put; default: the tokenizer's chat template if it has one, else plain tags.

    Raises:
        DataError: see `context`.
    """
    template = template_of(tokenizer) if template is None else template
    lines = context(forget, pool, others=others, style=style, seed=seed)
    return put_before(model, tokenizer, ["".join(template(*line)) + "\n" for line in lines], template=template)
