r"""ECO prompts: corrupt the embeddings of prompts that are about what was to be forgotten.

    p(prompt is about it) > threshold   ->   e_t <- corrupted(e_t)   at the marked tokens t of the prompt

The model reads everything else as it is, and so a prompt that is not flagged bit for bit. Marked are all tokens of the
prompt but the last, or those that a marker of names finds. The strength of a corruption is one number, for which no
gradient through the model is needed:

    g = (s(sigma + eps) - s(max(sigma - eps, 1e-8))) / (2 eps),   sigma <- max(sigma - rate * g, lowest)

with s any score that is to go down: the forget score itself, or a distance between what the corrupted model says and what
a retrained one is believed to say.

What is asked is disturbed, not what is known: the knowledge is in the weights, and a question that the test does not
flag brings it out.

Paper: Liu, Wang, Flanigan, Liu. Large Language Model Unlearning via Embedding-Corrupted Prompts. NeurIPS 2024,
arXiv:2406.07933.

Checked: chrisliu298/llm-unlearn-eco@9b0ba1a, the corruptions that are not drawn, the two search steps, and the map of
marked characters to tokens, on random numbers, to 1e-12.

Deviations:
    1. Noise is drawn from the seed and the tokens of the prompt, so that a prompt has the same noise whenever and with
       whatever it is read; the released code draws anew at each call.
    2. In scoring the released marks run over prompt and answer; here over the prompt, as in generation.
    3. The released reversal and shuffle move all embeddings of a row, padding included; here the marked ones.
    4. The released `set_rand_noise_first_n` writes zeros at tokens that are not marked; here they stay as they are.
    5. Hooks are those of one pass. The released code removes all hooks of the model, its own and others.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol, cast, get_args

import torch
from attrs import Attribute, define, field, frozen
from attrs.validators import ge, in_
from torch import Tensor, nn
from transformers import PreTrainedModel

from unlearnkit.decoding.guardrail_baselines import Gate, of_tokens_alone, restored_gate, stored_detect
from unlearnkit.errors import NeedError, NonFiniteError
from unlearnkit.models.around import Around
from unlearnkit.models.causal import CausalLM, unguarded
from unlearnkit.protocols import Hidden, Model, Site

if TYPE_CHECKING:
    from unlearnkit.decoding.folders import Setting, Stored

# --- corruptions of embeddings [N, H] ---------------------------------------------------------------------------------

Which = Literal["first", "largest", "highest", "lowest", "random"]
Act = Literal["add_noise", "set_noise", "zero", "flip_sign", "shift", "reverse", "shuffle"]


def dimensions(embeddings: Tensor, which: str, count: int, *, seed: int = 0) -> Tensor:
    """A choice of dimensions of each embedding: [N, H] -> [N, H] bool, `count` True in each row (H at most).

    Args:
        embeddings: [N, H].
        which: "first"; "largest" in absolute value; "highest" or "lowest" value; "random", alike for all rows.
        count: how many.
        seed: of the random choice.
    """
    size = embeddings.shape[-1]
    count = min(count, size)
    if which == "first":
        chosen = torch.arange(count, device=embeddings.device).expand(len(embeddings), count)
    elif which == "random":
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).to(embeddings.device)
        chosen = order[:count].expand(len(embeddings), count)
    else:
        values = embeddings.abs() if which == "largest" else embeddings
        chosen = values.topk(count, dim=-1, largest=which != "lowest").indices
    return torch.zeros_like(embeddings, dtype=torch.bool).scatter(-1, chosen, True)


def noise(embeddings: Tensor, strength: float, *, seed: int) -> Tensor:
    """Normal noise of standard deviation `strength`, shaped and typed like the embeddings [N, H]."""
    drawn = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return strength * drawn.to(embeddings)


def with_noise(embeddings: Tensor, where: Tensor, strength: float, *, seed: int) -> Tensor:
    """Noise added at chosen dimensions: [N, H], [N, H] bool -> [N, H]."""
    return torch.where(where, embeddings + noise(embeddings, strength, seed=seed), embeddings)


def noise_in_place(embeddings: Tensor, where: Tensor, strength: float, *, seed: int) -> Tensor:
    """Noise in place of chosen dimensions: [N, H], [N, H] bool -> [N, H]."""
    return torch.where(where, noise(embeddings, strength, seed=seed), embeddings)


def zeroed(embeddings: Tensor, where: Tensor) -> Tensor:
    """Chosen dimensions set to 0: [N, H], [N, H] bool -> [N, H]."""
    return embeddings.masked_fill(where, 0.0)


def sign_flipped(embeddings: Tensor, where: Tensor) -> Tensor:
    """Chosen dimensions negated: [N, H], [N, H] bool -> [N, H]."""
    return torch.where(where, -embeddings, embeddings)


def shifted(embeddings: Tensor, where: Tensor, amount: float) -> Tensor:
    """A number added to chosen dimensions: [N, H], [N, H] bool -> [N, H]."""
    return torch.where(where, embeddings + amount, embeddings)


def reversed_order(embeddings: Tensor) -> Tensor:
    """The last embedding first: [N, H] -> [N, H]."""
    return embeddings.flip(0)


def shuffled(embeddings: Tensor, *, seed: int) -> Tensor:
    """Embeddings in an order that depends on the seed: [N, H] -> [N, H]."""
    return embeddings[
        torch.randperm(len(embeddings), generator=torch.Generator().manual_seed(seed)).to(embeddings.device)
    ]


def _finite(_: object, __: Attribute[float], strength: float) -> None:
    if not math.isfinite(strength):
        raise ValueError(f"strength is {strength}; it has to be a finite number.")


@frozen(kw_only=True)
class Corruption:
    """What is done to the embeddings of marked tokens.

    Attributes:
        act: add noise, put noise in their place, set to 0, flip the sign, add a number; or reverse or shuffle the order
            of tokens, to which the other settings say nothing.
        which: dimensions it is done to, see `dimensions`.
        count: how many; all if it is more than there are.
        strength: standard deviation of noise, or the number that is added.
    """

    act: Act = field(default="add_noise", validator=in_(get_args(Act)))
    which: Which = field(default="first", validator=in_(get_args(Which)))
    count: int = field(default=1, validator=ge(1))
    strength: float = field(default=0.0, validator=_finite)

    def __call__(self, embeddings: Tensor, *, seed: int) -> Tensor:
        """[N, H] -> [N, H]."""
        if self.act == "reverse":
            return reversed_order(embeddings)
        if self.act == "shuffle":
            return shuffled(embeddings, seed=seed)
        where = dimensions(embeddings, self.which, self.count, seed=seed)
        match self.act:
            case "add_noise":
                return with_noise(embeddings, where, self.strength, seed=seed)
            case "set_noise":
                return noise_in_place(embeddings, where, self.strength, seed=seed)
            case "zero":
                return zeroed(embeddings, where)
            case "flip_sign":
                return sign_flipped(embeddings, where)
            case "shift":
                return shifted(embeddings, where, self.strength)


# --- the search for a strength ----------------------------------------------------------------------------------------


@frozen(eq=False)
class Tried:
    """One step of a search.

    Attributes:
        strength: after the step: a number, or a vector [D].
        above, below: scores on either side of the strength before the step.
    """

    strength: float | Tensor
    above: float
    below: float


def _difference(above: float, below: float, epsilon: float) -> float:
    if not math.isfinite(above) or not math.isfinite(below):
        raise NonFiniteError(f"the scores on both sides of a strength are {above} and {below}: no way leads down.")
    return (above - below) / (2 * epsilon)


def search_strength(
    score: Callable[[float], float],
    *,
    start: float = 0.1,
    epsilon: float = 0.0999,
    rate: float = 100.0,
    lowest: float | None = None,
    steps: int = 10,
    stop_below: float | None = None,
) -> tuple[Tried, ...]:
    """Walk a strength down a score by differences; two scores a step. The difference is over 2 epsilon even if cut off.

    Args:
        score: of a strength; small is good.
        start, epsilon, rate: first strength, half the distance of the two scores, and the length of a step.
        lowest: no strength below it. Default: `start`, as released.
        steps: at most.
        stop_below: the search ends after a step whose score above the strength is less.

    Raises:
        NonFiniteError: a score is nan or infinite.
    """
    lowest = start if lowest is None else lowest
    strength, tried = start, list[Tried]()
    for _ in range(steps):
        above, below = score(strength + epsilon), score(max(strength - epsilon, 1e-8))
        strength = max(strength - rate * _difference(above, below, epsilon), lowest)
        tried.append(Tried(strength, above, below))
        if stop_below is not None and above < stop_below:
            break
    return tuple(tried)


def search_strengths(
    score: Callable[[Tensor], float],
    start: Tensor,
    *,
    epsilon: float,
    rate: float,
    lowest: float,
    steps: int = 10,
    seed: int = 0,
) -> tuple[Tried, ...]:
    """The same for a vector of strengths [D]: each step goes along one random direction of length 1.

    Raises:
        NonFiniteError: a score is nan or infinite.
    """
    generator = torch.Generator().manual_seed(seed)
    strength, tried = start, list[Tried]()
    for _ in range(steps):
        direction = torch.randn(start.shape, generator=generator, dtype=torch.float64).to(start)
        direction = direction / direction.norm()
        above, below = score(strength + epsilon * direction), score(strength - epsilon * direction)
        strength = (strength - rate * _difference(above, below, epsilon) * direction).clamp(min=lowest)
        tried.append(Tried(strength, above, below))
    return tuple(tried)


# --- the model --------------------------------------------------------------------------------------------------------

Span = tuple[int, int]


class Mark(Protocol):
    """Finds what is to be corrupted in the text of a prompt: character spans (start, end) of names, say."""

    def __call__(self, text: str, /) -> Sequence[Span]: ...


def overlapping(marked: Sequence[Span], tokens: Sequence[Span]) -> tuple[bool, ...]:
    """Which tokens share a character with a marked span; all are (start, end) in one text."""
    return tuple(any(start < last and first < end for first, last in marked) for start, end in tokens)


def _seed_of(seed: int, prompt: Sequence[int]) -> int:
    content = hashlib.blake2b(",".join(map(str, (seed, *prompt))).encode(), digest_size=8).digest()
    return int.from_bytes(content) >> 1


@define(eq=False)
class _Cache:
    """The inner model's cache, and whether the prompt has been read."""

    inner: object
    started: bool = False


class CorruptedPrompts(Around):
    """A model that reads the prompts that a gate flags with corrupted embeddings; itself a `Model`.

    The corruption depends on the prompt, not on the batch it is read in. A prompt of one token stays as it is.
    """

    def __init__(
        self,
        model: Model | PreTrainedModel,
        gate: Gate,
        corruption: Corruption,
        *,
        mark: Mark | None = None,
        seed: int = 0,
    ) -> None:
        """Corrupt prompts of a model.

        Args:
            model: the model inside; at its bottom lies one of transformers.
            gate: finds prompts and flags them; released thresholds are 0.99 (TOFU) and 0.999 (WMDP).
            corruption: what is done to marked tokens.
            mark: finds them; where it finds none, and without it, all tokens of a prompt but the last are marked.
            seed: of noise and order.

        Raises:
            NeedError: the model has no embeddings to look up, or writes in a way of its own.
        """
        super().__init__(of_tokens_alone(model, "CorruptedPrompts"))
        if not isinstance(unguarded(self.model), CausalLM):
            raise NeedError(f"{type(unguarded(self.model)).__name__} has no embeddings that could be corrupted.")
        self.gate = gate
        self.corruption = corruption
        self.mark = mark
        self.seed = seed

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        """Run the body on corrupted embeddings.

        Raises:
            NeedError: packed rows.
        """
        assert cache is None or isinstance(cache, _Cache)
        inner = None if cache is None else cache.inner
        if cache is None or not cache.started:
            site, change = Site("embed"), self._change(inputs, answered=cache is None)
            if change is not None:
                add = {**add, site: change + add[site] if site in add else change}
        if cache is not None:
            cache.started = True
        return self.model.hidden(inputs, capture=capture, add=add, cache=inner)

    def new_cache(self) -> _Cache:
        return _Cache(self.model.new_cache())

    def _change(self, inputs: Mapping[str, Tensor], *, answered: bool) -> Tensor | None:
        """What is added to the embeddings of a batch, [B, T, H]; None if nothing is."""
        embed, ids = self._embedding(), inputs["input_ids"]
        change: Tensor | None = None
        for row, (start, real) in enumerate(self.gate.rows(inputs)):
            prompt = self.gate.prompt(real, answered=answered)
            if len(prompt) == 1 or not self.gate.acts_on(prompt):
                continue
            places = torch.tensor(self.marked(prompt), device=ids.device)
            embeddings = embed(ids[row, start + places])
            if change is None:
                change = embeddings.new_zeros(*ids.shape, embeddings.shape[-1])
            corrupted = self.corruption(embeddings, seed=_seed_of(self.seed, prompt))
            change = change.index_put((torch.tensor(row), start + places), corrupted - embeddings)
        return change

    def marked(self, prompt: Sequence[int]) -> list[int]:
        """The places of the tokens of a prompt that are corrupted."""
        if self.mark is not None:
            tokenizer = self.gate.reader.tokenizer
            texts = [
                str(tokenizer.decode(list(prompt[:end]), skip_special_tokens=True)) for end in range(len(prompt) + 1)
            ]
            spans = [(len(before), len(text)) for before, text in pairwise(texts)]
            question = self.gate.reader.question(prompt)
            first = texts[-1].rfind(question) if question else 0
            inside = [(max(first, one), min(other, first + len(question))) for one, other in self.mark(texts[-1])]
            found = overlapping([span for span in inside if span[0] < span[1]], spans)
            if any(found):
                return [place for place, is_marked in enumerate(found) if is_marked]
        return list(range(len(prompt) - 1))

    def _embedding(self) -> nn.Module:
        inner = unguarded(self.model)
        assert isinstance(inner, CausalLM)
        return inner.anatomy.embedding

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What was set, as JSON."""
        done = self.corruption
        own: dict[str, Setting] = {"act": done.act, "which": done.which, "count": done.count, "strength": done.strength}
        return self.gate.settings(self.model) | own | {"seed": self.seed, "mark": self.mark is not None}

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """What a linear test learned."""
        return stored_detect(self.gate.detect, self.model)[1]


def restored(stored: Stored) -> CorruptedPrompts:
    """Corrupted prompts, as they were written; a test or marker of the caller's own has to be given again."""
    settings = stored.settings
    corruption = Corruption(
        act=cast("Act", settings["act"]),
        which=cast("Which", settings["which"]),
        count=int(str(settings["count"])),
        strength=float(str(settings["strength"])),
    )
    mark = cast("Mark", stored.needed("mark")) if settings["mark"] else None
    gate = restored_gate(stored)
    return CorruptedPrompts(stored.parts["model"], gate, corruption, mark=mark, seed=int(str(settings["seed"])))
