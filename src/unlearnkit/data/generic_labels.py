r"""Generic labels (Who's Harry Potter): what a model that has never read a text would say next, as labels for it.

    1. reinforce: train the base model further on the text to be forgotten              -> v_rf
    2. translate: replace anchor terms by generic ones ("Hogwarts" -> "the academy"), remembering which position of the
       translation belongs to which of the text
    3. v = v_base(translation) - alpha * relu(v_rf(text) - v_base(translation))          at aligned positions
    4. label_{t+1} = argmax v_t;  then L = mean_t -log p(label_{t+1} | x_<=t) on the text itself

Consistency, so that the text does not contradict its labels: inside an anchor nothing is learned but after its last
token; before an anchor that was there already nothing is learned; and a generic term that was used earlier is no longer
suggested (the first tokens of its spellings get the position's mean logit).

Train with `CrossEntropy("forget")`, or with `DistributionMatching("forget")` on `SoftLabels`: softmax(v) in v's place.
The reinforced model is an ordinary fine-tuning run, `CrossEntropy("forget")` for a few epochs.

Paper: Eldan, Russinovich. Who's Harry Potter? Approximate Unlearning in LLMs. 2023, arXiv:2310.02238.

Checked: laws only; the rules are those of the authors' script, as carried in magikarp01/tasks@7c1e4a9. The formula is
that of decoding/logit_arithmetic.py.

Deviations:
1. The script draws a translation for each spelling of a term; here a term has one in a block.
2. The script takes the first key that fits, here the longest does.
3. WPU's re-implementation lowers by 5 the logits of a name that is in the text already, and matches soft labels
averaged over names. The mean logit is the script's; soft labels are those of one translation.
4. The script's last incomplete block is dropped, and its pieces of 10,000 characters each begin with a begin token.
`tokenize_text` does neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from attrs import field, frozen
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.batch import IGNORE, Row
from unlearnkit.decoding.logit_arithmetic import generic_logits
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError
from unlearnkit.models.causal import as_model, device_of, evaluation_mode
from unlearnkit.protocols import Hidden, Model, Site

Spelling = tuple[int, ...]
"""Token ids of a term."""

Spell = Callable[[str], Sequence[Spelling]]
"""The ways a tokenizer writes a term, by what precedes it; as many for every term, in one order."""


class Predict(Protocol):
    """A causal model on one text: T token ids -> raw logits [T, V]."""

    def __call__(self, tokens: Sequence[int], /) -> Tensor: ...


# --- anchors ----------------------------------------------------------------------------------------------------------


def spellings(tokenizer: PreTrainedTokenizerBase) -> Spell:
    """After a space and after a line break: the tokens that cover a character of the term."""

    def spell(term: str) -> tuple[Spelling, ...]:
        return tuple(_covering(tokenizer, before, term) for before in (" ", "\n"))

    return spell


def _covering(tokenizer: PreTrainedTokenizerBase, before: str, term: str) -> Spelling:
    encoded = tokenizer(before + term, add_special_tokens=False, return_offsets_mapping=True)
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return tuple(token for token, (start, end) in pairs if end > len(before) and start < end)


def usable_anchors(translations: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Without terms that fall apart into others, which might be translated differently.

    "Harry Potter" goes if both "Harry" and "Potter" are there, "Harry's" if "Harry" is.
    """
    stripped = {
        key.strip(): tuple(dict.fromkeys(value.strip() for value in values if value.strip()))
        for key, values in translations.items()
    }
    return {key: values for key, values in stripped.items() if key and values and not _falls_apart(key, stripped)}


def _falls_apart(key: str, keys: Mapping[str, object]) -> bool:
    if key.endswith("'s") and key[:-2] in keys:
        return True
    words = key.split()
    return len(words) > 1 and all(word in keys for word in words)


class _Anchor(NamedTuple):
    """One spelling of a term: which it is, and its tokens."""

    term: str
    number: int
    tokens: Spelling


@frozen(eq=False)
class Anchors:
    """Anchor terms with their generic translations, tokenised.

    Attributes:
        translations: by term; see `usable_anchors`.
        spell: how a term is written in tokens.
    """

    translations: Mapping[str, Sequence[str]] = field(converter=usable_anchors)
    spell: Spell
    by_first: Mapping[int, Sequence[_Anchor]] = field(init=False)

    @by_first.default
    def _longest_first(self) -> dict[int, list[_Anchor]]:
        found: dict[int, list[_Anchor]] = {}
        for term in self.translations:
            for number, tokens in enumerate(self.spell(term)):
                if tokens:
                    found.setdefault(tokens[0], []).append(_Anchor(term, number, tokens))
        return {first: sorted(anchors, key=lambda anchor: -len(anchor.tokens)) for first, anchors in found.items()}

    def at(self, tokens: Sequence[int], place: int) -> _Anchor | None:
        """The longest anchor that begins at a place."""
        for anchor in self.by_first.get(tokens[place], ()):
            if tuple(tokens[place : place + len(anchor.tokens)]) == anchor.tokens:
                return anchor
        return None


@frozen
class Translation:
    """A text with its anchors replaced.

    Attributes:
        tokens: of the translation.
        aligned: for each position of the text, that of the translation which predicts the same, or -1.
        used: for each position of the translation, tokens that begin a generic term used from there on.
    """

    tokens: tuple[int, ...]
    aligned: tuple[int, ...]
    used: tuple[tuple[int, ...], ...]


def translate(tokens: Sequence[int], anchors: Anchors, *, seed: int = 0, block: str = "") -> Translation:
    """Replace every anchor by the translation that is drawn for its term in this block.

    Args:
        tokens: of the text.
        anchors: what is replaced.
        seed, block: the key of the draws.
    """
    translated: list[int] = []
    aligned: list[int] = []
    used: list[tuple[int, ...]] = []
    met: set[str] = set()
    place = 0
    while place < len(tokens):
        anchor = anchors.at(tokens, place)
        if anchor is None:
            aligned.append(len(translated))
            translated.append(tokens[place])
            used.append(())
            place += 1
            continue
        choices = anchors.translations[anchor.term]
        generic = choices[keyed_draw(len(choices), seed, "translation", block, anchor.term)]
        written = anchors.spell(generic)
        value = written[anchor.number]
        if anchor.term in met and aligned:
            aligned[-1] = -1  # what comes before would have to predict the anchor itself, which the text has shown
        met.add(anchor.term)
        translated += value
        if value:
            used += [tuple(spelling[0] for spelling in written if spelling), *((),) * (len(value) - 1)]
        # After its last token the text goes on as the translation does.
        aligned += [*(-1,) * (len(anchor.tokens) - 1), len(translated) - 1]
        place += len(anchor.tokens)
    return Translation(tuple(translated), tuple(aligned), tuple(used))


# --- labels -----------------------------------------------------------------------------------------------------------


def without_used(logits: Tensor, used: Sequence[Sequence[int]]) -> Tensor:
    """Logits in which generic terms that were used earlier are as likely as the average token: [T, V] -> [T, V].

    Args:
        logits: raw, of each position of a translation.
        used: tokens that begin a term used from each position on; they count at the positions after it.
    """
    edited = logits.clone()
    earlier: list[int] = []
    for place, tokens in enumerate(used):
        if earlier:
            edited[place, earlier] = logits[place].mean()
        earlier = [*earlier, *(token for token in tokens if token not in earlier)]
    return edited


@torch.no_grad()
def generic_predictions(
    tokens: Sequence[int], translation: Translation, *, base: Predict, reinforced: Predict, alpha: float = 5.0
) -> tuple[Tensor, Tensor]:
    """Generic logits of a text: (positions [n] int64 that are aligned, raw logits [n, V]).

    Args:
        tokens: of the text.
        translation: of the same text.
        base: the model to be unlearned; reads the translation.
        reinforced: the same model after more training on the text; reads the text.
        alpha: how much is taken off of what the reinforced model says more of.
    """
    where = torch.tensor([place for place, other in enumerate(translation.aligned) if other >= 0], dtype=torch.int64)
    if not len(where):
        return where, torch.zeros(0, 0)
    others = torch.tensor([other for other in translation.aligned if other >= 0])
    plain = without_used(base(translation.tokens), translation.used)[others.to(where.device)]
    raised = reinforced(tokens)[where].to(plain.device)
    return where, generic_logits(plain, raised, alpha=alpha)


def predict_with(model: Model | PreTrainedModel) -> Predict:
    """A model as `Predict`: one text at a time, without dropout."""
    wrapped = as_model(model)
    device = device_of(wrapped)

    @torch.no_grad()
    def predict(tokens: Sequence[int]) -> Tensor:
        ids = torch.tensor([list(tokens)], device=device)
        with evaluation_mode(wrapped):
            hidden = wrapped.hidden({"input_ids": ids, "position_ids": torch.arange(ids.shape[1], device=device)[None]})
            logits = wrapped.head(hidden.final[0])
        return logits if logits.dtype == torch.float64 else logits.float()

    return predict


def generic_labels(
    rows: Sequence[Row], anchors: Anchors, *, base: Predict, reinforced: Predict, alpha: float = 5.0, seed: int = 0
) -> tuple[Row, ...]:
    """The same rows with generic labels: the inputs are the text, the labels what a stranger to it would say.

    Args:
        rows: blocks of the text to be forgotten; a place that is not supervised stays so.
        anchors: terms of the text with generic translations.
        base, reinforced: the model to be unlearned, before and after more training on the text; see `predict_with`.
        alpha: 5 in the authors' script.
        seed: of the translations that are drawn for each block.
    """
    return tuple(_labelled(row, *_predictions(row, anchors, base, reinforced, alpha, seed)) for row in rows)


def _predictions(
    row: Row, anchors: Anchors, base: Predict, reinforced: Predict, alpha: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Of the positions whose next token is supervised: [n] and [n, V]."""
    tokens: list[int] = row.inputs["input_ids"].tolist()
    translation = translate(tokens, anchors, seed=seed, block=row.id)
    where, logits = generic_predictions(tokens, translation, base=base, reinforced=reinforced, alpha=alpha)
    following = torch.cat([row.labels[1:] != IGNORE, torch.zeros(1, dtype=torch.bool)])
    chosen = following[where]
    return where[chosen], logits[chosen.to(logits.device)]


def _labelled(row: Row, where: Tensor, logits: Tensor) -> Row:
    labels = torch.full_like(row.labels, IGNORE)
    if len(where):
        labels[where + 1] = logits.argmax(-1).to(labels.device)
    return Row(row.id, row.role, row.inputs, labels, group=row.group)


class SoftLabels:
    """A teacher that knows what it says of each row: a `Model` without weights, for `DistributionMatching`.

    Bind it to the teacher's name: `unlearn(..., models={"teacher": teacher})`. A text that it was not made for gets nan,
    so that it cannot be mistaken for knowledge.

    Attributes:
        rows: the rows it was made for, supervised where it has something to say.
        vocabulary: V.
    """

    def __init__(self, rows: Sequence[Row], predictions: Sequence[tuple[Tensor, Tensor]], *, top: int = 64) -> None:
        """Keep the most likely tokens of each position, their probabilities scaled to a sum of 1.

        Args:
            rows: with `input_ids` and labels at the places after the positions; see `soft_labels`.
            predictions: for each row, positions [n] and raw logits [n, V].
            top: how many tokens are kept; at most V.

        Raises:
            DataError: no row has a prediction, or two have the same tokens.
        """
        widths = {logits.shape[1] for _, logits in predictions if len(logits)}
        if len(widths) != 1 or top < 1:
            raise DataError(f"soft labels need logits of one vocabulary and top >= 1: widths {sorted(widths)}, {top=}.")
        self.rows = tuple(rows)
        self.vocabulary = widths.pop()
        self._top = min(top, self.vocabulary)
        self._states: dict[tuple[int, ...], Tensor] = {}
        for row, (where, logits) in zip(rows, predictions, strict=True):
            key = _without_padding(row.inputs["input_ids"].tolist())
            if key in self._states:
                raise DataError(
                    f"two rows have the tokens of {row.id!r}: soft labels are told apart by them. Drop one."
                )
            states = torch.full((len(row), 2 * self._top), torch.nan, dtype=torch.float64)
            if len(where):
                likely = logits.double().softmax(-1).topk(self._top, -1)
                probabilities = likely.values / likely.values.sum(-1, keepdim=True)
                states[where] = torch.cat([likely.indices.double(), probabilities], -1).to(states.device)
            self._states[key] = states

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        """Kept tokens and their probabilities, [B, T, 2 * top]. A line may hold several texts (packed)."""
        ids, positions = inputs["input_ids"], inputs["position_ids"]
        final = torch.full((*ids.shape, 2 * self._top), torch.nan, dtype=torch.float64)
        for line, (tokens, places) in enumerate(zip(ids.tolist(), positions.tolist(), strict=True)):
            starts = [place for place, position in enumerate(places) if position == 0]
            for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
                known = self._states.get(_without_padding(tokens[start:end]))
                if known is not None:
                    size = min(len(known), end - start)
                    final[line, start : start + size] = known[:size]
        return Hidden(final, {})

    def head(self, hidden: Tensor, /) -> Tensor:
        """[N, 2 * top] -> log-probs [N, V], -inf for tokens that were not kept."""
        tokens, probabilities = hidden[:, : self._top], hidden[:, self._top :]
        spread = hidden.new_zeros(len(hidden), self.vocabulary)
        spread.scatter_(-1, tokens.nan_to_num().long(), probabilities)
        return spread.log()

    def new_cache(self) -> object:
        """Soft labels belong to texts that are whole: there is nothing to generate with."""
        raise DataError("soft labels know what follows in the texts they were made for, and cannot generate.")


def _without_padding(tokens: Sequence[int]) -> tuple[int, ...]:
    """Without the zeros that padding puts at the end, so that a text is found in any batch."""
    end = len(tokens)
    while end and tokens[end - 1] == 0:
        end -= 1
    return tuple(tokens[:end])


def soft_labels(
    rows: Sequence[Row],
    anchors: Anchors,
    *,
    base: Predict,
    reinforced: Predict,
    alpha: float = 5.0,
    seed: int = 0,
    top: int = 64,
) -> SoftLabels:
    """Generic predictions as distributions, softmax(v), instead of their favourites; train on its `rows`.

    Args:
        rows, anchors, base, reinforced, alpha, seed: see `generic_labels`.
        top: tokens kept of each distribution.
    """
    found = [_predictions(row, anchors, base, reinforced, alpha, seed) for row in rows]
    labelled = [_labelled(row, *one) for row, one in zip(rows, found, strict=True)]
    return SoftLabels(labelled, found, top=top)
