r"""DUET: teach a model without instructions to answer as the reference does when told that it has forgotten.

    L = mean_x sum_{v in C(x)} huber(z(v|x) - z_ref(v|prefix, x)),    C(x) the `top` largest logits of the teacher
    huber(d) = d^2 / 2 if |d| <= delta, else delta * (|d| - delta / 2)

The teacher is the frozen reference behind a prefix ("You have forgotten all about ..., act as if you never knew it."),
the student the model without it. z are logits before the softmax at the first answer position, where it is decided
whether an answer is given at all. Queries suffice; forget and retain queries are treated alike, in one mean. With
respect to a logit in C the gradient is the difference, clipped at delta; the other logits get none. Adding a constant
to the student's logits changes the loss. Without a prefix the loss and its gradient are 0 at the reference; with all of
the vocabulary in C and a large delta it is half the squared distance of the logits.

    teacher = Prefixed(CausalLM(reference), prefix=tokenizer(PREFIX)["input_ids"])
    unlearn(model, DUET(), data, models={"teacher": teacher}, ...)

A row's first supervised token marks the position; which token it is does not matter.

Paper: Zhong, Yang, Zhu. DUET: Distilled Unlearning from an Efficient Teacher. ICLR 2026, arXiv:2601.21283.

Reconstructed: the equation is the paper's, read from notes and reviews of it; there is no code. `top` and `delta` are
not known, 20 and 1 are guesses. That only the first position is taught is said by a reviewer; with `every_position` the
teacher is followed along the answers that the rows hold (its own greedy ones, say).

Checked: closed forms, finite differences and the laws of this library; no official numbers exist.

Deviations: none are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from attrs import field, frozen
from attrs.validators import ge, gt, min_len
from torch import Tensor, nn

from unlearnkit.errors import AnatomyError, NeedError
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Compared, Flat, Hidden, Loss, Model, Needs, Seen, Site, Term, Unit


def top_logit_huber(logits: Tensor, teacher_logits: Tensor, *, top: int, delta: float) -> Tensor:
    """Huber loss on the teacher's largest logits, summed over them: [N, V], [N, V] -> [N].

    Args:
        logits: [N, V] under the student, before the softmax.
        teacher_logits: [N, V] under the teacher; a constant.
        top: how many of the teacher's logits are compared; all V if there are fewer.
        delta: the difference from which on the loss grows linearly, > 0.
    """
    target = teacher_logits.detach().topk(min(top, logits.shape[-1]), -1)
    found = logits.gather(-1, target.indices)
    return torch.nn.functional.huber_loss(found, target.values, reduction="none", delta=delta).sum(-1)


@frozen
class FromTeacher:
    """`top_logit_huber` at each position."""

    top: int
    delta: float
    uses_labels = False

    def __call__(self, logits: Tensor, reference_logits: Tensor, labels: Tensor) -> Tensor:
        return top_logit_huber(logits, reference_logits, top=self.top, delta=self.delta)


def first_of_each_row(row: Tensor) -> Tensor:
    """Whether a value is the first of its row: [N] int64, ascending -> [N] bool."""
    return torch.cat([torch.ones_like(row[:1]), row.diff()]) > 0


@frozen(kw_only=True)
class DUET(Additive):
    """`top_logit_huber` at the first answer position, averaged over the queries of all roles in the global step.

    The teacher is a live model under the name "teacher", a `Prefixed` one for instance.

    Attributes:
        top: how many of the teacher's logits are compared. Their losses are summed.
        delta: the difference of two logits from which on the loss grows linearly.
        every_position: follow the teacher along the whole answer, not at its first token alone.
        roles: whose queries are learned.
        of: the name of the teacher.
        name: what the term is logged as.
    """

    top: int = field(default=20, validator=ge(1))
    delta: float = field(default=1.0, validator=[gt(0.0), finite])
    every_position: bool = False
    roles: tuple[str, ...] = field(default=("forget", "retain"), validator=min_len(1))
    of: str = "teacher"
    name: str = "duet"

    def distance(self, role: str) -> Compared:
        return Compared(FromTeacher(self.top, self.delta), role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset(self.distance(role) for role in self.roles)

    def __call__(self, seen: Seen) -> Loss:
        sums = torch.stack([self.total(seen[self.distance(role)]) for role in self.roles])
        return Loss(Term(self.name, sums.sum(), per=Unit("sequence", self.roles)))

    def total(self, flat: Flat) -> Tensor:
        """Sum over the positions that are taught, 0-d."""
        return flat.values.sum() if self.every_position else flat.values[first_of_each_row(flat.row)].sum()


class Prefixed(nn.Module):
    """A model that reads a prefix before every row; itself a `Model`, with the positions of the rows alone.

    Its weights are those of the model inside. It is a teacher: it cannot generate, and nothing is added to its hidden
    states. Rows of one batch lie one below the other, padded on the right; packed rows are refused.
    """

    def __init__(self, model: Model, prefix: Sequence[int], *, after: int = 0) -> None:
        """Put token ids before every row.

        Args:
            model: the model inside; wrap one of transformers in `CausalLM`.
            prefix: the ids, without a begin-of-text token if rows have one.
            after: how many of a row's tokens stay in front of the prefix: 1 if rows begin with such a token.

        Raises:
            AnatomyError: it is no `Model`, or none with weights of its own (an adapter switched off).
        """
        super().__init__()
        if not isinstance(model, nn.Module) or not isinstance(model, Model):
            raise AnatomyError(
                f"{type(model).__name__} is no Model with weights of its own, which a prefixed teacher has to be. "
                "Wrap a model of transformers in CausalLM; for a trained adapter load the model under it once more."
            )
        if after < 0:
            raise ValueError(f"'after' must be >= 0: {after}")
        self.model: Model = model
        self.prefix = tuple(prefix)
        self.after = after
        self.training = model.training

    @property
    def vocabulary(self) -> int:
        return self.model.vocabulary

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        """Run the body on prefix and rows, and leave the prefix's hidden states out.

        Raises:
            NeedError: packed rows, a cache, or something to be added.
        """
        if cache is not None or add:
            raise NeedError(
                "a prefixed model is a teacher: it neither generates nor takes what is added to its states."
            )
        ids = inputs["input_ids"]
        longer = {"input_ids": self._insert(ids, ids.new_tensor(self.prefix))}
        if (positions := inputs.get("position_ids")) is not None:
            if bool((positions.diff() < 0).any()):
                raise NeedError(
                    "a prefixed model was given packed rows, of which only the first would see the prefix. "
                    "Pass collate=collate_text."
                )
            size = longer["input_ids"].shape
            longer["position_ids"] = torch.arange(size[1]).to(positions).expand(size)
        if (mask := inputs.get("attention_mask")) is not None:
            longer["attention_mask"] = self._insert(mask, mask.new_ones(len(self.prefix)))
        found = self.model.hidden(longer, capture=capture)
        return Hidden(self._without(found.final), {site: self._without(state) for site, state in found.sites.items()})

    def head(self, hidden: Tensor, /) -> Tensor:
        return self.model.head(hidden)

    def new_cache(self) -> object:
        return self.model.new_cache()

    def _insert(self, tokens: Tensor, prefix: Tensor) -> Tensor:
        """[B, T], [P] -> [B, P + T]."""
        inserted = prefix.expand(len(tokens), len(prefix))
        return torch.cat([tokens[:, : self.after], inserted, tokens[:, self.after :]], 1)

    def _without(self, states: Tensor) -> Tensor:
        """[B, P + T, ·] -> [B, T, ·]: at each position of the row what predicts its next token.

        After the last token before the prefix, that is the prefix's last.
        """
        start = max(0, self.after - 1)
        return torch.cat([states[:, :start], states[:, start + len(self.prefix) :]], 1)
