"""The vocabulary everything is written in: needs, what was seen of them, losses, scores, and the protocols.

A *need* says what is wanted, where, and of which model. `observe` runs models and answers a set of needs with one
`Seen`; objectives turn a `Seen` into a `Loss`, metrics turn one into a `Score`. Neither ever touches a model, a device
or a process group. Needs are frozen and hashable: a union is `|`, and equal needs are answered once.

Tensor legend: B rows, T positions, N wanted positions of a role (flat, without padding), V vocabulary, H hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol, Self, TypeVar, overload, runtime_checkable

import torch
from attrs import evolve, field, frozen
from attrs.validators import deep_iterable, ge, gt, in_, le, min_len
from torch import Tensor

from unlearnkit.errors import LossError, NeedError

Positions = Literal["answer", "text", "non_pad"]
"""Where a need looks: `answer` predicts a supervised token, `text` has a next token, `non_pad` is a real token."""

POSITIONS: tuple[Positions, ...] = ("answer", "text", "non_pad")

# --- sites: where in a model a hidden state can be read or changed ----------------------------------------------------

SiteKind = Literal["embed", "resid_pre", "resid_post", "attn_out", "mlp_key", "mlp_out", "final_hidden"]


@frozen
class Site:
    """A place in a transformer whose activation [B, T, ·] can be captured or added to; `layer` counts blocks from 0."""

    kind: SiteKind
    layer: int | None = None

    def __str__(self) -> str:
        return self.kind if self.layer is None else f"{self.kind}[{self.layer}]"


def resid_post(layer: int) -> Site:
    """The output of block `layer`: the residual stream after its attention and MLP."""
    return Site("resid_post", layer)


# --- needs ------------------------------------------------------------------------------------------------------------


class TokenStatistic(Hashable, Protocol):
    """A number (or k numbers) per position, from one model's logits: [N, V], [N] -> [N] or [N, k].

    Holds numbers or tuples, never tensors: a tensor hashes by identity, and equal needs would silently not merge.
    """

    @property
    def uses_labels(self) -> bool:
        """Whether `labels` are read; such a statistic is refused where positions have none."""

    def __call__(self, logits: Tensor, labels: Tensor, /) -> Tensor: ...


class TokenComparison(Hashable, Protocol):
    """A number per position from two live models' logits: [N, V], [N, V], [N] -> [N]."""

    @property
    def uses_labels(self) -> bool: ...

    def __call__(self, logits: Tensor, reference_logits: Tensor, labels: Tensor, /) -> Tensor: ...


@frozen
class Greedy:
    """Most likely token at each step, until the end token, a stop string or `max_new_tokens`."""

    max_new_tokens: int = field(default=200, validator=ge(1))
    stop: tuple[str, ...] = field(default=(), validator=deep_iterable(min_len(1)))


@frozen
class Sampling:
    """Tokens drawn from the model's distribution, several continuations of each prompt.

    What is drawn depends on `seed`, the row's role and id and the number of the sample: not on how prompts are batched.

    Attributes:
        samples: continuations of each prompt.
        temperature: logits are divided by it; below 1 is closer to greedy.
        top_p: only the most likely tokens that together have at least this probability are drawn.
        max_new_tokens, stop: as in `Greedy`.
        seed: of the draws.
    """

    samples: int = field(default=10, validator=ge(1))
    temperature: float = field(default=1.0, validator=gt(0))
    top_p: float = field(default=1.0, validator=[gt(0), le(1)])
    max_new_tokens: int = field(default=200, validator=ge(1))
    stop: tuple[str, ...] = field(default=(), validator=deep_iterable(min_len(1)))
    seed: int = 0


Decoding = Greedy | Sampling


@frozen
class Tokens:
    """A statistic at each wanted position of a role, of a live model or of a recording."""

    statistic: TokenStatistic
    role: str
    of: str = field(default="model", kw_only=True)
    positions: Positions = field(default="answer", kw_only=True, validator=in_(POSITIONS))


@frozen
class Compared:
    """A comparison of "model" with the live model `of`, at each wanted position of a role."""

    comparison: TokenComparison
    role: str
    of: str = field(default="reference", kw_only=True)
    positions: Positions = field(default="answer", kw_only=True, validator=in_(POSITIONS))


@frozen
class Captured:
    """Hidden states at a site, [N, ·], at each wanted position of a role."""

    site: Site
    role: str
    of: str = field(default="model", kw_only=True)
    positions: Positions = field(default="non_pad", kw_only=True, validator=in_(POSITIONS))


@frozen
class Generated:
    """What a model writes after the prompt of each row of a role."""

    decoding: Decoding
    role: str
    of: str = field(default="model", kw_only=True)


@frozen
class Texts:
    """Prompt and answer of each row of a role as text; no model is run."""

    role: str


TokenNeed = Tokens | Compared | Captured
ModelNeed = TokenNeed | Generated
Need = ModelNeed | Texts
Needs = frozenset[Need]


def asked_of_models(needs: Iterable[Need]) -> frozenset[ModelNeed]:
    """All but those that no model is run for."""
    return frozenset(need for need in needs if not isinstance(need, Texts))


# --- what was seen ----------------------------------------------------------------------------------------------------


@frozen(eq=False)
class Flat:
    """Values at the wanted positions of one role, without padding, rows in order.

    Attributes:
        values: [N] or [N, k], at least float32.
        row: [N] int64, ascending: the row (0 … rows - 1) each value belongs to.
        rows: how many rows there are, those without any wanted position included.
    """

    values: Tensor
    row: Tensor
    rows: int

    def sums(self) -> Tensor:
        """Sum over each row's positions: [rows] or [rows, k]; 0 for a row without any."""
        return self.values.new_zeros(self.rows, *self.values.shape[1:]).index_add(0, self.row, self.values)

    def counts(self) -> Tensor:
        """Number of positions of each row: [rows] int64."""
        return self.row.new_zeros(self.rows).index_add(
            0, self.row, torch.ones_like(self.row)
        )  # bincount waits for a GPU

    def means(self) -> Tensor:
        """Mean over each row's positions: [rows] or [rows, k]; 0 for a row without any."""
        counts = self.counts().clamp(min=1)
        return self.sums() / (counts if self.values.ndim == 1 else counts[:, None])

    def split(self) -> tuple[Tensor, ...]:
        """Each row's values as a tensor of its own, in order."""
        return torch.split(self.values, self.counts().tolist())


@frozen
class Continuations:
    """What was generated for each row of a role, beside the reference answer decoded from the row's labels.

    Attributes:
        texts: one per row; of several samples the first.
        references: one per row.
        samples: all texts of each row. Default: `texts`, one each.
        tokens: the ids of each sample, without the end token; empty if they are not known (texts from elsewhere).
    """

    texts: tuple[str, ...]
    references: tuple[str, ...]
    samples: tuple[tuple[str, ...], ...] = field()
    tokens: tuple[tuple[tuple[int, ...], ...], ...] = ()

    @samples.default
    def _one_each(self) -> tuple[tuple[str, ...], ...]:
        return tuple((text,) for text in self.texts)


@frozen
class RowTexts:
    """Each row of a role as text, special tokens left out: what precedes the answer, and the answer."""

    prompts: tuple[str, ...]
    answers: tuple[str, ...]


Answer = Flat | Continuations | RowTexts


@frozen(eq=False)
class Seen:
    """The answers to a set of needs for some rows; `seen[need]` is typed by the need.

    Attributes:
        answers: what was observed.
        ids: for each role, the row ids in the order of `Flat.row`.
        groups: for each role, the group of each row (a question with its answers, a preference pair).
    """

    answers: Mapping[Need, Answer]
    ids: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[str, ...]]

    @overload
    def __getitem__(self, need: TokenNeed) -> Flat: ...
    @overload
    def __getitem__(self, need: Generated) -> Continuations: ...
    @overload
    def __getitem__(self, need: Texts) -> RowTexts: ...
    def __getitem__(self, need: Need) -> Answer:
        try:
            return self.answers[need]
        except KeyError:
            raise NeedError(
                f"{need} was not observed. List it in `needs` of the objective or metric that reads it; "
                f"observed were: {sorted(map(str, self.answers)) or 'none'}."
            ) from None


# --- objectives -------------------------------------------------------------------------------------------------------


def _role_names(roles: str | tuple[str, ...]) -> tuple[str, ...]:
    return (roles,) if isinstance(roles, str) else roles


@frozen
class Unit:
    """What a summed term is divided by, counted over the whole global step: positions of a kind, or sequences.

    `Unit("answer", "retain")` counts supervised tokens, `Unit("sequence", "forget")` rows with at least one.
    Several roles are counted together: `Unit("answer", ("idk", "retain"))`.
    """

    kind: Literal["answer", "text", "non_pad", "sequence"]
    roles: tuple[str, ...] = field(converter=_role_names)


@frozen(eq=False)
class Term:
    """A named summand of a loss.

    Attributes:
        name: what it is logged as; unique within a loss.
        value: scalar; a *sum* over the observed rows if `per` is given.
        per: the unit of its mean. None: the value is no sum (a ratio of means, say) and is evaluated on whole steps.
        weight: what it counts in the total; logged means are unweighted.
    """

    name: str
    value: Tensor
    per: Unit | None = None
    weight: float = 1.0


@frozen(eq=False, init=False)
class Loss:
    """Terms with unique names. The engine divides each by its unit's global count, once, and adds them up."""

    terms: tuple[Term, ...]

    def __init__(self, *terms: Term) -> None:
        names = [term.name for term in terms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise LossError(
                f"two terms of one loss are both called {twice[0]!r}. Each term is logged and weighted by its name: "
                "give one of the objectives another `name`."
            )
        self.__attrs_init__(terms=terms)

    def __iter__(self) -> Iterator[Term]:
        return iter(self.terms)


@runtime_checkable
class Objective(Protocol):
    """Says what it needs, and turns it into a loss. A class of yours satisfies this without inheriting anything.

    It may be called on a part of a step in which a role has no rows, and returns the same terms then.
    """

    @property
    def needs(self) -> Needs: ...

    def __call__(self, seen: Seen, /) -> Loss: ...


@runtime_checkable
class Stateful(Protocol):
    """An objective that changes between steps (dual variables): returns its successor, state in its attrs fields.

    One that has come to rest may say so by a property `settled`: its means need not be read at every step then.
    """

    def after_step(self, means: Mapping[str, float], /) -> Objective:
        """The objective of the next step, given the unweighted global mean of each term of this one."""


class Additive(Protocol):
    """Gives an objective `+` and `*`, and nothing else: `NPO(beta=0.1) + 1.0 * CrossEntropy("retain")`."""

    @property
    def needs(self) -> Needs: ...

    def __call__(self, seen: Seen, /) -> Loss: ...

    def __add__(self, other: Objective) -> WeightedSum:
        return WeightedSum(_summands(self) + _summands(other))

    def __mul__(self, weight: float) -> WeightedSum:
        return WeightedSum(tuple((weight * inner, objective) for inner, objective in _summands(self)))

    def __rmul__(self, weight: float) -> WeightedSum:
        return self * weight


def _finite(_: object, __: object, summands: tuple[tuple[float, Objective], ...]) -> None:
    for weight, objective in summands:
        if not math.isfinite(weight):
            raise LossError(f"the weight of {objective} is {weight}; it has to be a finite number.")


@frozen
class WeightedSum(Additive):
    """Objectives with weights. Needs merge, so that the forward pass is shared."""

    summands: tuple[tuple[float, Objective], ...] = field(validator=[min_len(1), _finite])

    @property
    def needs(self) -> Needs:
        return all_needs(objective for _, objective in self.summands)

    def __call__(self, seen: Seen) -> Loss:
        return Loss(
            *(
                evolve(term, weight=weight * term.weight)
                for weight, objective in self.summands
                for term in objective(seen)
            )
        )

    def after_step(self, means: Mapping[str, float]) -> WeightedSum:
        return evolve(
            self,
            summands=tuple(
                (weight, part.after_step(means) if isinstance(part, Stateful) else part)
                for weight, part in self.summands
            ),
        )


def changes(objective: Objective) -> bool:
    """Whether an objective is another after a step, so that its means have to be read at once."""
    if isinstance(objective, WeightedSum):
        return any(changes(part) for _, part in objective.summands)
    return isinstance(objective, Stateful) and not getattr(objective, "settled", False)


def _summands(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.summands if isinstance(objective, WeightedSum) else ((1.0, objective),)


# --- metrics ----------------------------------------------------------------------------------------------------------

Direction = Literal["knowledge", "forgetting", "utility"]
"""What a higher score means: the model knows more of the data, forgot it better, or is more useful."""


class Interval(NamedTuple):
    """A bootstrap interval of a score."""

    low: float
    high: float
    level: float


@frozen
class Score:
    """The result of a metric.

    Attributes:
        value: the score, or None if it could not be measured; then `reason` says why. Never 0 in its place.
        higher: what a higher value means; None where nothing was measured, or where 0 is best and either side bad.
        per_example: value by example id, for the examples that could be measured; only of scores that are their mean.
        n: number of examples behind `value`.
        reason: why there is no value.
        interval: on request, a bootstrap interval over examples.
        parts: named numbers the value was made of.
        left_out: ids of the examples that could not be measured and are not behind `value`.
        samples: numbers by example id behind a score that is not their mean: two sides of a test, by side.
    """

    value: float | None
    higher: Direction | None
    per_example: Mapping[str, float] = field(factory=dict)
    n: int = field(default=0, validator=ge(0), kw_only=True)
    reason: str | None = field(default=None, kw_only=True)
    interval: Interval | None = field(default=None, kw_only=True)
    parts: Mapping[str, float] = field(factory=dict, kw_only=True)
    left_out: tuple[str, ...] = field(default=(), kw_only=True)
    samples: Mapping[str, Mapping[str, float]] = field(factory=dict, kw_only=True)

    @classmethod
    def not_measured(cls, reason: str, higher: Direction | None = None) -> Self:
        return cls(None, higher, reason=reason)

    @classmethod
    def mean(cls, per_example: Mapping[str, float], higher: Direction) -> Self:
        """Arithmetic mean over examples; one that is nan was not measured: it is left out, and named in `left_out`."""
        measured = {key: value for key, value in per_example.items() if not math.isnan(value)}
        left_out = tuple(key for key in per_example if key not in measured)
        if not measured:
            reason = f"none of the {len(per_example)} examples could be measured"
            return cls(None, higher, reason=reason, left_out=left_out)
        return cls(math.fsum(measured.values()) / len(measured), higher, measured, n=len(measured), left_out=left_out)


@runtime_checkable
class Metric(Protocol):
    """Says what it needs, and turns it into a score over whole data sets."""

    @property
    def needs(self) -> Needs: ...

    def __call__(self, seen: Seen, /) -> Score: ...


@runtime_checkable
class Checked(Protocol):
    """A metric that refuses data it cannot be trusted on (non-members that were trained on) before anything is run."""

    def check(self, contents: Mapping[str, Mapping[str, str]], /) -> None:
        """Raise a DataError that names the rows; `contents` is, by role, each row's id and a digest of its tokens."""


# --- models that judge text, injected ---------------------------------------------------------------------------------


class Embed(Protocol):
    """Sentence embeddings: n texts -> [n, D], any scale."""

    def __call__(self, texts: Sequence[str], /) -> Tensor: ...


Entailment = Literal["entailment", "neutral", "contradiction"]


class Entail(Protocol):
    """Natural language inference: (premise, hypothesis) pairs -> what the first says of the second."""

    def __call__(self, pairs: Sequence[tuple[str, str]], /) -> Sequence[Entailment]: ...


class Classify(Protocol):
    """Probability of a class (clean text, a refusal): n texts -> [n], in [0, 1]."""

    def __call__(self, texts: Sequence[str], /) -> Tensor: ...


class Judge(Protocol):
    """A language model that answers: n prompts -> n replies."""

    def __call__(self, prompts: Sequence[str], /) -> Sequence[str]: ...


def all_needs(consumers: Iterable[Objective | Metric]) -> Needs:
    """What objectives or metrics need together; equal needs once."""
    return frozenset[Need]().union(*(consumer.needs for consumer in consumers))


# --- models and data --------------------------------------------------------------------------------------------------


class Hidden(NamedTuple):
    """Final hidden states [B, T, H] (what the head reads) and the captured sites [B, T, ·]."""

    final: Tensor
    sites: Mapping[Site, Tensor]


@runtime_checkable
class Model(Protocol):
    """What `observe` and `generate` ask of a model. A decode-time method is one of these."""

    @property
    def vocabulary(self) -> int:
        """V, the width of the head's output."""

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        """Run the body. `add` is added at its sites, out of place; `cache` comes from `new_cache` and is opaque."""

    def head(self, hidden: Tensor, /) -> Tensor:
        """[N, H] -> [N, V], exactly the model's logits (soft-capping and logit scale included)."""

    def new_cache(self) -> object:
        """An empty cache for generation."""


Example = TypeVar("Example", covariant=True)


@runtime_checkable
class TextGenerator(Protocol):
    """A model that writes in a way of its own: a search, a filter on what was written, several agents.

    `evaluate` and attacks ask it for text in place of running `generate`; numbers of tokens are asked of it as a `Model`.
    """

    def write(self, prompts: Sequence[Tensor], decoding: Decoding, /, *, seeds: Sequence[int] = ()) -> Sequence[str]:
        """One continuation of each prompt, without the prompt.

        Args:
            prompts: token ids of each prompt, [T] each, not padded.
            decoding: how to choose tokens, and when to stop; of `Sampling`, one continuation of each prompt given.
            seeds: of each prompt's draws; default: their places, from `decoding.seed` on.
        """


@runtime_checkable
class Guarded(Protocol):
    """A model behind something that acts at inference: who holds the weights holds the model without it."""

    @property
    def unguarded(self) -> Model: ...


class Dataset(Protocol[Example]):
    """Anything with a length and an index; a list will do."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...
