r"""Embedding attack: vectors after the question, moved until the model would begin to answer, then left to write.

    prompt    question + e_1 … e_n + start                     e: embeddings that need not belong to any token
    e <- e - rate * sign( d mean_t -log p(start_t | ...) / d e )
    success   a keyword in any text written on the way: every `every` steps, by the last layer and by each before it

The attacker holds the weights, and forces only how an answer begins: the answer up to its keyword, or a phrase. What is
written beyond that is the model's. Success is cumulative over steps and layers, so it grows with the number of texts
that were looked at: `sampled` draws as many from the model without an attack, which is what this has to be read
against. A layer's text is what the head makes of that layer's state at each step, while the last layer's words go on.

A few vectors can force any text out of any model (arXiv:2502.15836), with `knows_answer` surely, and told only its
beginning sometimes. So the retrained oracle is the control, and with `knows_answer` a random wrong answer too.

Aliases:
    rate: step_size (released code), eta (paper)
    steps: iters (released code)
    every: generate_interval (released code)

Paper: Schwinn, Dobre, Xhonneux, Gidel, Günnemann. Soft Prompt Threats: Attacking Safety Alignment and Unlearning in
Open-Source LLMs through the Embedding Space. NeurIPS 2024, arXiv:2402.09063.

Checked: SchwinnL/LLM_Embedding_Attack@7ebabc4, update, loss, defaults and decoding of layers, by reading. No
numbers were compared.

Deviations:
1. The release leaves out target tokens with id 0, taking them for padding; here padding is known by length.
2. It reads embedding layer and normalised last layer among the layers; the first only repeats the text, and the last is
   the text. Here a layer's text is of the blocks before the last. Its head reads them without the final norm, and so
   does this by default (`normed`).
3. A generation ends at the end token, the other layers' texts with it; the release writes 100 tokens whatever comes.
4. The universal attack takes one step on all training questions together, where the release takes one for each batch.
5. Where an answer's beginning is known, that is the target; the release has phrases written for each question.
6. Its baseline draws from the ten likeliest tokens; `sampled` draws as `Sampling` says, by `top_p`.
7. The vectors stand where a suffix would stand in the question, inside the chat template; the release has no template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from attrs import field, frozen
from attrs.validators import and_, ge, gt, lt, min_len
from torch import Tensor, nn

from unlearnkit.attacks.attack import (
    Budget,
    Outcome,
    Secret,
    Target,
    ThreatModel,
    check_secrets,
    mean,
)
from unlearnkit.attacks.gcg import EMBED, Prompt, Slot, allowed_tokens, find_slot, first_tokens, misled, token_nll
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError
from unlearnkit.models.around import Around
from unlearnkit.models.causal import CausalLM, device_of, evaluation_mode
from unlearnkit.models.generate import cut_at_stop, decoder, end_tokens, generate
from unlearnkit.protocols import Hidden, Sampling, Site, resid_post


def signed_step(delta: Tensor, gradient: Tensor, rate: float) -> Tensor:
    """One step down by the gradient's signs; no entry moves by more than `rate`, whatever the loss is scaled by."""
    return delta - rate * gradient.sign()


def soft_loss(model: CausalLM, prompts: Sequence[Prompt], start: Tensor, delta: Tensor) -> Tensor:
    """Mean NLL of each prompt's target behind shifted tokens: [n], [B, n, H] -> [B].

    Args:
        model: run as it is.
        prompts: what stands around the place, and what is to follow; padded on the right in here.
        start: the ids whose embeddings are shifted.
        delta: the shift of each prompt's.
    """
    place = delta.device
    rows = [torch.cat([one.before, start.to(one.before), one.after, one.target]).to(place) for one in prompts]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    width = ids.shape[1]
    shift = torch.stack(
        [
            nn.functional.pad(own, (0, 0, len(one.before), width - len(one.before) - len(start)))
            for own, one in zip(delta, prompts, strict=True)
        ]
    )
    inputs = {"input_ids": ids, "position_ids": torch.arange(width, device=place).expand(len(rows), -1)}
    final = model.hidden(inputs, add={EMBED: shift}).final
    return torch.stack(
        [
            token_nll(model.head(final[number, len(row) - len(one.target) - 1 : len(row) - 1])[None],
                      one.target.to(place)).mean()
            for number, (row, one) in enumerate(zip(rows, prompts, strict=True))
        ]
    )  # fmt: skip


class Softened(Around):
    """A model whose prompts hold shifted embeddings, for one call of `generate`; it notes what each layer would say.

    Attributes:
        layers: block -> the id that its state would say at each step, [B] each; the last block says what is written.
    """

    model: CausalLM

    def __init__(self, model: CausalLM, delta: Tensor, places: Sequence[int], lengths: Sequence[int], *,
                 layers: Sequence[int] = (), normed: bool = False) -> None:  # fmt: skip
        """Put shifts into prompts.

        Args:
            model: the model inside.
            delta: [B, n, H].
            places: where in each prompt its first shifted token stands.
            lengths: of the prompts, which `generate` pads on the left.
            layers: blocks whose state is read.
            normed: whether the final norm is put on it before the head reads it.
        """
        super().__init__(model)
        self.delta, self.places, self.lengths, self.normed = delta, places, lengths, normed
        self.layers: dict[int, list[Tensor]] = {layer: [] for layer in layers}
        self._begun = False

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        """Run the body, and shift embeddings in the first call."""
        if not self._begun:
            width, size = inputs["input_ids"].shape[1], self.delta.shape[1]
            starts = [width - length + place for place, length in zip(self.places, self.lengths, strict=True)]
            shift = torch.stack(
                [
                    nn.functional.pad(own, (0, 0, start, width - start - size))
                    for own, start in zip(self.delta, starts, strict=True)
                ]
            )
            add = {**add, EMBED: shift + add[EMBED] if EMBED in add else shift}
            self._begun = True
        wanted = frozenset(resid_post(layer) for layer in self.layers)
        found = self.model.hidden(inputs, capture=capture | wanted, add=add, cache=cache)
        parts = self.model.anatomy
        for layer, said in self.layers.items():
            state = found.sites[resid_post(layer)][:, -1]
            said.append(self.model.head(parts.final_norm(state) if self.normed else state).argmax(-1))
        return Hidden(found.final, {site: found.sites[site] for site in capture})


def soft_texts(
    target: Target,
    prompts: Sequence[Prompt],
    start: Tensor,
    delta: Tensor,
    *,
    layers: Sequence[int] = (),
    normed: bool = False,
) -> tuple[tuple[str, ...], ...]:
    """What the model writes behind shifted tokens, by `target.decoding`: of each prompt the text, then each layer's.

    Args:
        target: its model is one of transformers, see `Target.weights`.
        prompts: their targets are not looked at.
        start, delta: see `soft_loss`.
        layers, normed: see `Softened`.
    """
    assert isinstance(target.model, CausalLM)
    decode, ends = decoder(target.tokenizer), end_tokens(target.tokenizer, target.model)
    texts: list[tuple[str, ...]] = []
    for first in range(0, len(prompts), target.batch):
        piece = prompts[first : first + target.batch]
        rows = [torch.cat([one.before, start.to(one.before), one.after]) for one in piece]
        soft = Softened(
            target.model,
            delta[first : first + target.batch],
            [len(one.before) for one in piece],
            [len(row) for row in rows],
            layers=layers,
            normed=normed,
        )
        written = generate(soft, rows, target.decoding, end_tokens=ends, decode=decode)
        said = {layer: torch.stack(tokens, 1).tolist() for layer, tokens in soft.layers.items()}
        for number, ids in enumerate(written):
            streams = [list(ids), *(tokens[number][: len(ids) + 1] for tokens in said.values())]
            texts.append(tuple(cut_at_stop(decode(stream), target.decoding.stop).strip() for stream in streams))
    return tuple(texts)


def sampled(target: Target, secrets: Sequence[Secret], sampling: Sampling) -> dict[str, float]:
    """The most of each secret that one of several drawn answers gives away: as many looks, and no attack."""
    texts = target.samples([secret.question for secret in secrets], sampling)
    return {
        secret.id: max(target.leak(text, secret) for text in drawn)
        for secret, drawn in zip(secrets, texts, strict=True)
    }


@frozen(eq=False)
class _Run:
    """What one run brought out: by secret the most so far, at each look; the texts; what is left beside."""

    looks: dict[int, dict[str, float]]
    texts: dict[str, str]
    steps: int
    written: int
    kept: tuple[float, float] | None


@frozen(kw_only=True)
class EmbeddingAttack:
    """Vectors of its own for each secret, or one set of them for all.

    Attributes:
        length: number of vectors.
        steps, rate: see the top of the file.
        every: steps from one generation to the next.
        universal: one set of vectors, moved on a part of the secrets and tried on the others.
        train_share: of the secrets, if universal: how many it is moved on.
        layers: whether what blocks before the last would say counts as well.
        normed: whether the final norm is put on their states.
        knows_answer: whether the target is the answer, and not its beginning.
        start: the target where the answer begins with its keyword.
        seed: of the draws.
        threat: "weights".
    """

    length: int = field(default=20, validator=ge(1))
    steps: int = field(default=100, validator=ge(0))
    rate: float = field(default=1e-3, validator=ge(0))
    every: int = field(default=10, validator=ge(1))
    universal: bool = False
    train_share: float = field(default=0.5, validator=and_(gt(0), lt(1)))
    layers: bool = True
    normed: bool = False
    knows_answer: bool = False
    start: str = field(default="The answer is", validator=min_len(1))
    seed: int = 0
    threat: ThreatModel = field(default="weights", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        train, test = self._split(secrets)
        run = self._run(target, train, test)
        control: dict[str, float] = {}
        runs = [run]
        if self.knows_answer:
            chosen = {one.id: other for one in secrets if (other := misled(one, self.seed)) is not None}
            wrong = [[chosen[one.id] for one in part if one.id in chosen] for part in (train, test)]
            if all(wrong):
                forced = self._run(target, wrong[0], wrong[1])
                runs.append(forced)
                control = forced.looks[self.steps]
        before = target.leaks(test)
        return Outcome(
            attack=f"embedding attack, {self.length} vectors, {self.steps} steps"
            + (", universal" if self.universal else "")
            + (", target answer" if self.knows_answer else ""),
            threat=self.threat,
            budget=Budget(
                queries=sum(one.written for one in runs),
                gradient_steps=sum(one.steps for one in runs),
                knows_answer=self.knows_answer,
            ),
            seed=self.seed,
            measure="a keyword of the answer in any text written on the way",
            before=before,
            after=run.looks[self.steps],
            found=run.texts,
            curve={f"{step} steps": mean(values) for step, values in run.looks.items()},
            control=control,
            kept=run.kept,
            left_out={one.id: "the vectors were moved on it" for one in train} if self.universal else {},
        )

    def _split(self, secrets: Sequence[Secret]) -> tuple[list[Secret], list[Secret]]:
        if not self.universal:
            return list(secrets), list(secrets)
        if len(secrets) < 2:
            raise DataError("a universal attack is moved on some secrets and tried on others: give it two at least.")
        order = sorted(secrets, key=lambda secret: keyed_draw(2**62, self.seed, secret.id, "split"))
        cut = min(len(order) - 1, max(1, round(self.train_share * len(order))))
        return order[:cut], order[cut:]

    def _run(self, target: Target, train: Sequence[Secret], test: Sequence[Secret]) -> _Run:
        """Move vectors on the first secrets, and look for the others behind them."""
        bare = target.with_model(target.weights)
        model = bare.model
        assert isinstance(model, CausalLM)
        allowed = allowed_tokens(bare.tokenizer, model.vocabulary)
        slots = {one.id: find_slot(bare, one.question, allowed) for one in {s.id: s for s in (*train, *test)}.values()}
        generator = torch.Generator().manual_seed(self.seed)
        start = first_tokens(slots[train[0].id], allowed, self.length, generator)
        moved = [self._prompt(slots[one.id], one) for one in train]
        tried = [self._prompt(slots[one.id], one) for one in test]
        width, sets = (
            model.anatomy.embedding(start[:1].to(device_of(model))).shape[-1],
            1 if self.universal else len(moved),
        )
        delta = torch.zeros(sets, self.length, width, device=device_of(model))
        blocks = tuple(range(len(model.anatomy.blocks) - 1)) if self.layers else ()
        most = dict.fromkeys([one.id for one in test], 0.0)
        last = dict.fromkeys(most, "")
        looks: dict[int, dict[str, float]] = {}
        for step in range(self.steps + 1):
            if (step and step % self.every == 0) or step == self.steps:
                shifts = delta.expand(len(tried), -1, -1)
                for one, texts in zip(
                    test, soft_texts(bare, tried, start, shifts, layers=blocks, normed=self.normed), strict=True
                ):
                    leaks = [bare.leak(text, one) for text in texts]
                    if max(leaks) > most[one.id] or not most[one.id]:
                        last[one.id] = texts[leaks.index(max(leaks))]
                    most[one.id] = max(most[one.id], *leaks)
                looks[step] = dict(most)
            if step < self.steps:
                delta = signed_step(delta, self._gradient(bare, moved, start, delta), self.rate)
        return _Run(
            looks,
            last,
            self.steps * (1 if self.universal else len(moved)),
            len(looks) * len(tried),
            self._kept(target, bare, allowed, start, delta),
        )

    def _kept(
        self, target: Target, bare: Target, allowed: Tensor, start: Tensor, delta: Tensor
    ) -> tuple[float, float] | None:
        """Retained knowledge without and with the same vectors; None where each question has its own."""
        before = target.kept() if self.universal else None
        if before is None:
            return None
        prompts = [self._prompt(find_slot(bare, one.question, allowed), one) for one in target.retained]
        texts = soft_texts(bare, prompts, start, delta.expand(len(prompts), -1, -1))
        leaks = {one.id: bare.leak(text, one) for one, (text,) in zip(target.retained, texts, strict=True)}
        return before, mean(leaks)

    def _prompt(self, slot: Slot, secret: Secret) -> Prompt:
        return slot.forcing(secret.answer if self.knows_answer else secret.stem or self.start)

    def _gradient(self, target: Target, prompts: Sequence[Prompt], start: Tensor, delta: Tensor) -> Tensor:
        """[1 or B, n, H], of the loss summed over prompts."""
        assert isinstance(target.model, CausalLM)
        shift = delta.clone().requires_grad_()
        gradient = torch.zeros_like(delta)
        for first in range(0, len(prompts), target.batch):
            piece = prompts[first : first + target.batch]
            with torch.enable_grad(), evaluation_mode(target.model):
                own = shift.expand(len(prompts), -1, -1)[first : first + target.batch]
                loss = soft_loss(target.model, piece, start, own).sum()
                gradient += torch.autograd.grad(loss, shift)[0]
        return gradient
