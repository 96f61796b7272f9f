r"""Selective unlearning of spans (SeUL): gradient ascent inside the sensitive spans of a text, and nowhere else.

    L = -(1/Z) * sum over spans s, sum over tokens t of s: -log p(y_t | x, y_<t)

Rows in which only span tokens are supervised make any objective do this. Z = 1, the paper's, is
`GradientAscent(reduction="sequence_sum")` up to the number of rows; `GradientAscent()` divides by the span tokens of
the step. Tokens outside spans have no gradient at their logits; the weights they share with the others still move.

Offline: an annotator marks characters of each text beforehand (`span_rows`); `offline_spans` is one of two passes of a
language model, which first names candidates and then confirms each. Online: `online_spans` asks the model itself, and
marks runs of tokens that it finds improbable, the informative ones.

Paper: Wang, Zeng, Guo, Wong, Gottlob. Selective Forgetting: Advancing Machine Unlearning Techniques and Evaluation in
Language Models. AAAI 2025, arXiv:2402.05813.

Reconstructed: the objective, that online selection goes by the model's probabilities, and that offline annotation is
done by a language model in two stages, are the paper's. The online rule is ours: runs of tokens less likely than the
answer's mean probability, the lowest mean first, up to 30 % of the tokens (rounded up; without a limit it would mark
about half of a text). The run at which the limit is reached is cut at its end. How candidates are found in the text
(every occurrence, upper and lower case told apart) is ours as well.

Checked: laws only.

Deviations: none that could be known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.batch import Collate, Row, Template, collate_text, tokenize
from unlearnkit.data.selection import Characters, answer_offsets, select, touching
from unlearnkit.errors import DataError
from unlearnkit.evaluate import gather
from unlearnkit.models.causal import as_model
from unlearnkit.models.peft import PeftModel
from unlearnkit.protocols import Model, Tokens
from unlearnkit.statistics import LabelLogProb

Annotate = Callable[[str, str], Iterable[Characters]]
"""(prompt, answer) -> the sensitive characters of the answer."""


def improbable_runs(log_probs: Tensor, *, share: float = 0.3) -> Tensor:
    """The online rule on one answer: [n] -> [n] bool, at most `share` of the tokens, rounded up.

    Maximal runs of tokens less likely than the answer's mean probability; the run with the lowest mean probability
    first, the earlier of two alike. Equal probabilities give no run.

    Args:
        log_probs: [n] of the answer's tokens in order, in nats.
        share: in [0, 1].
    """
    probs = log_probs.double().exp().tolist()
    mean = math.fsum(probs) / max(1, len(probs))
    runs: list[list[int]] = []
    for place, prob in enumerate(probs):
        if prob < mean * (1 - 1e-9):  # equal ones may be a rounding error apart from their mean
            if runs and runs[-1][-1] == place - 1:
                runs[-1].append(place)
            else:
                runs.append([place])
    runs.sort(key=lambda run: math.fsum(probs[place] for place in run) / len(run))
    places = [place for run in runs for place in run]
    marked = torch.zeros(len(probs), dtype=torch.bool)
    marked[places[: math.ceil(round(share * len(probs), 9))]] = True
    return marked


def online_spans(
    model: Model | PreTrainedModel | PeftModel,
    rows: Sequence[Row],
    *,
    share: float = 0.3,
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> dict[str, tuple[bool, ...]]:
    """`improbable_runs` of each answer under a model, by row id: what `select` keeps.

    Args:
        model: the model as it is now, usually the one that is to be unlearned.
        rows: of one role.
        share: of each answer's tokens, at most.
        max_tokens: padded tokens per batch.
        collate: see `observe`.

    Raises:
        DataError: no rows, rows of several roles, two of one id, or a share outside [0, 1].
        VocabularyError: tokens that the model does not have.
    """
    if not 0 <= share <= 1:
        raise DataError(f"share is {share}; it has to be between 0 and 1.")
    if not rows:
        raise DataError("there are no rows to annotate.")
    role = rows[0].role
    tokens = Tokens(LabelLogProb(), role)
    seen = gather({"model": as_model(model)}, frozenset({tokens}), {role: rows}, max_tokens=max_tokens, collate=collate)
    runs = (tuple(improbable_runs(log_probs, share=share).tolist()) for log_probs in seen[tokens].split())
    return dict(zip(seen.ids[role], runs, strict=True))


def occurrences(answer: str, phrases: Iterable[str]) -> tuple[Characters, ...]:
    """Where phrases occur in an answer, every time; a phrase that does not occur, or is blank, is passed over."""
    found = set[Characters]()
    for phrase in phrases:
        start = answer.find(phrase) if phrase.strip() else -1
        while start >= 0:
            found.add((start, start + len(phrase)))
            start = answer.find(phrase, start + 1)
    return tuple(sorted(found))


def offline_spans(
    prompt: str,
    answer: str,
    *,
    extract: Callable[[str, str], Iterable[str]],
    verify: Callable[[str, str, str], bool],
) -> tuple[Characters, ...]:
    """Two stages: candidates are named, each is confirmed or not, and those confirmed are located in the answer.

    Args:
        extract: (prompt, answer) -> phrases of the answer that may be sensitive.
        verify: (prompt, answer, phrase) -> whether it is.
    """
    return occurrences(answer, [phrase for phrase in extract(prompt, answer) if verify(prompt, answer, phrase)])


def span_rows(
    tokenizer: PreTrainedTokenizerBase,
    examples: Mapping[str, tuple[str, str]],
    annotate: Annotate,
    *,
    role: str,
    template: Template,
    max_length: int = 512,
) -> tuple[Row, ...]:
    """Rows in which the tokens of sensitive spans are supervised; an example without any is left out.

    A token belongs to a span if it covers at least one character of it. The end token belongs to none.

    Args:
        examples: (prompt, answer) by id.
        annotate: marks characters of the answer.
        tokenizer, role, template, max_length: see `tokenize`.

    Raises:
        DataError: as `tokenize`, or a span that is not within the answer.
    """
    rows, keep = [], {}
    for name, (prompt, answer) in examples.items():
        spans = list(annotate(prompt, answer))
        if outside := [span for span in spans if not 0 <= span[0] < span[1] <= len(answer)]:
            raise DataError(
                f"example {name!r} has the span {outside[0]}, but its answer has {len(answer)} characters. "
                "Spans are (first, first after), counted from 0 in the answer."
            )
        rows.append(tokenize(tokenizer, prompt, answer, id=name, role=role, template=template, max_length=max_length))
        offsets = answer_offsets(tokenizer, prompt, answer, template=template, max_length=max_length)
        keep[name] = touching(offsets, spans)
    return select(rows, keep)
