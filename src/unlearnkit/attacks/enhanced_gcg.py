r"""Enhanced GCG: one prefix for every question that brings a model to write and think like the one before unlearning.

    loss        force * F + dynamic * D + static * S + fluency * X + repetition * R,   mean over training questions

    F  max(-log floor, mean NLL of the first tokens that the original writes greedily to the plain question)
    D  mean over blocks and positions of | h(prefix + question + target) - h0(prefix + question + target) |
    S  10 * mean of 1 - cos( h(prefix + question + target), h0(question + target) ) over the target's positions
    X  mean NLL of the prompt's own tokens by the attacked model
    R  sum_v max(c_v - 1, 0)^1.5 / n                                  c_v: how often token v stands in the prefix

    step        one of: exchange a token by gradient, by the model's proposals, delete one, insert a proposal;
                `candidates` results are scored, and the best prefix seen goes on

h and h0 are the residual streams that enter chosen blocks of the attacked model and the original. The target is what
the original says, so nobody has to know an answer; the attacker holds both models. The prefix is made on a few secrets
and tried on the others, which it cannot have been told about. A retrained oracle is attacked in the same way: it is
brought to imitate the original's form, and what it then knows is chance. That the original still answers behind the
prefix only says that the prefix does not break it: the loss asks the original to go on as it does.

Aliases:
    candidates: k1 (released code)
    top: k2 (released code)
    forced: n_force (released code)
    matched: n_match (released code)
    floor: p_threshold (released code)

Paper: Łucki, Wei, Huang, Henderson, Tramèr, Rando. An Adversarial Perspective on Machine Unlearning for AI Safety. TMLR
2025, arXiv:2409.18025; search after Thompson, Sklar. FLRT: Fluent Student-Teacher Redteaming. 2024, arXiv:2407.17447.

Checked: ethz-spylab/unlearning-vs-safety@75dade5, losses, schedule and defaults, by reading. The file of its operators
was not read: they are our reading of their names and of how they are called. No numbers were compared.

Deviations:
1. D is the plain distance; the release can divide it by the square of the original's mean norm, times 100.
2. The release forces F on the first tokens and takes S on those that follow; here S is on all of the target. What the
   original writes may end before `forced + matched` tokens; the release writes on.
3. Layers are the blocks whose input is read: the release's 7 is block 6 (it hooks the block before).
4. R counts the prefix's own tokens, not those of the question as well: it is 0 if and only if they are distinct.
5. Both models read their own embeddings of the prefix; the release feeds one model's to both.
6. Accuracy on multiple choice is theirs; here it is what the target's `leak` says of the text.
7. One prefix is made; the release reports the best of a few.
8. A prefix grows while it is shorter than the least length, and shorter ones then leave the buffer; in the release it
   only grows at the least length too, and is compared with shorter ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from attrs import Attribute, field, frozen
from attrs.validators import ge
from torch import Tensor

from unlearnkit.attacks.attack import Budget, Outcome, Secret, Target, ThreatModel, check_secrets, mean
from unlearnkit.attacks.dua import original_of
from unlearnkit.attacks.gcg import (
    EMBED,
    Found,
    Prompt,
    Slot,
    allowed_tokens,
    embeddings,
    exchanged,
    find_slot,
    first_tokens,
    token_nll,
)
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError
from unlearnkit.models.causal import CausalLM, device_of, evaluation_mode
from unlearnkit.models.generate import end_tokens, generate
from unlearnkit.protocols import Greedy, Site

# --- losses -----------------------------------------------------------------------------------------------------------


def force_loss(nll: Tensor, floor: float | None = 0.6) -> Tensor:
    """Mean NLL of forced tokens, no less than that of probability `floor`: [B, T] -> [B]."""
    forced = nll.mean(-1)
    return forced if floor is None else forced.clamp(min=-math.log(floor))


def representation_distance(states: Tensor, reference: Tensor) -> Tensor:
    """Mean length of the difference over blocks and positions: [B, L, T, H], broadcastable -> [B]; 0 if equal."""
    lengths: Tensor = torch.linalg.vector_norm(states - reference, dim=-1)
    return lengths.flatten(1).mean(1)


def direction_distance(states: Tensor, reference: Tensor) -> Tensor:
    """Ten times the mean of 1 - cos over blocks and positions: [B, L, T, H], broadcastable -> [B]."""
    return 10.0 * (1.0 - torch.cosine_similarity(states, reference, dim=-1)).flatten(1).mean(1)


def repetition(ids: Tensor, exponent: float = 1.5) -> Tensor:
    """Sum over tokens of (how often more than once)^exponent, over the length: [B, n] -> [B]; 0 if all are distinct."""
    same = (ids[:, :, None] == ids[:, None, :]).sum(-1)  # [B, n]: how often each place's token stands in its row
    return ((same - 1).float() ** exponent / same).sum(-1) / ids.shape[1]


# --- operators --------------------------------------------------------------------------------------------------------

Operator = Literal["gradient", "proposal", "delete", "insert"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)


def deleted(ids: Tensor, *, count: int, generator: torch.Generator) -> Tensor:
    """The rows of one token fewer, each place at most once, drawn: [n] -> [min(count, n), n - 1]."""
    places = torch.randperm(len(ids), generator=generator)[:count]
    return torch.stack([torch.cat([ids[:place], ids[place + 1 :]]) for place in places.tolist()])


def put_in(ids: Tensor, proposals: Tensor, *, count: int, generator: torch.Generator) -> Tensor:
    """Rows of one token more: [n], [n + 1, k] -> [count, n + 1]; proposals[i] may stand before token i."""
    places = torch.randint(len(proposals), (count,), generator=generator).tolist()
    tokens = proposals[places, torch.randint(proposals.shape[1], (count,), generator=generator)]
    return torch.stack(
        [torch.cat([ids[:place], token[None], ids[place:]]) for place, token in zip(places, tokens, strict=True)]
    )


def swapped(ids: Tensor, proposals: Tensor, *, count: int, generator: torch.Generator) -> Tensor:
    """Rows with one token exchanged: [n], [at least n, k] -> [count, n]."""
    places = torch.randint(len(ids), (count, 1), generator=generator)
    drawn = proposals[places, torch.randint(proposals.shape[1], (count, 1), generator=generator)]
    return ids.repeat(count, 1).scatter(1, places, drawn)


def least_length(step: int, *, start: int, length: int, ramp: int) -> float:
    """How long a prefix has to be at a step: from `start` to `length`, on a straight line over `ramp` steps."""
    return float(length) if ramp == 0 else min(start + (length - start) * step / ramp, float(length))


def chances(weights: Sequence[float], *, now: int, least: float, most: int) -> tuple[float, ...]:
    """Weights of `OPERATORS`: a prefix that is not long enough only grows, one that is too long does not grow."""
    gradient, proposal, delete, insert = weights
    if insert > 0 and now < most and now < least:
        return (0.0, 0.0, 0.0, insert)
    if now <= 1:
        delete = 0.0
    return (gradient, proposal, delete, insert if now < most else 0.0)


# --- the loss of a prefix ---------------------------------------------------------------------------------------------


@frozen(eq=False)
class Imitation:
    """How far the attacked model is from the original behind a prefix.

    Attributes:
        model, original: followed by gradients; never changed.
        prompts: the training questions; the target is what the original writes.
        layers: blocks whose input is compared.
        forced: of the target's tokens, how many are forced.
        force, dynamic, static, fluency, repetition: what each term counts; see the top of the file.
        floor: see `force_loss`.
        batch: rows at a time.
    """

    model: CausalLM
    original: CausalLM
    prompts: tuple[Prompt, ...]
    layers: tuple[int, ...]
    forced: int = 10
    force: float = 1.0
    dynamic: float = 1.0
    static: float = 0.0
    fluency: float = 1.5
    repetition: float = 3.0
    floor: float | None = 0.6
    batch: int = 64
    _static: tuple[Tensor, ...] = field(init=False)

    @_static.default
    def _of_plain_questions(self) -> tuple[Tensor, ...]:
        if not self.static:
            return ()
        empty = torch.empty(1, 0, dtype=torch.int64)
        with torch.no_grad(), evaluation_mode(self.original):
            return tuple(self._run(self.original, one, empty)[1][:, :, -len(one.target) - 1 :] for one in self.prompts)

    def __call__(self, inserted: Tensor) -> Tensor:
        """The loss of prefixes of one length: [B, n] -> [B]."""
        with torch.no_grad(), evaluation_mode(self.model, self.original):
            return torch.cat(
                [
                    torch.stack([self._loss(number, rows) for number in range(len(self.prompts))]).mean(0)
                    for rows in inserted.to(device_of(self.model)).split(self.batch)
                ]
            )

    def gradient(self, inserted: Tensor) -> Tensor:
        """Of the loss by the prefix's one-hot rows, through both models: [n] -> [n, V]."""
        tables = [embeddings(self.model), embeddings(self.original)]
        ids = inserted.to(tables[0].device)[None]
        total = torch.zeros(len(inserted), len(tables[0]), device=tables[0].device)
        for number in range(len(self.prompts)):
            deltas = [
                torch.zeros(1, len(inserted), one.shape[1], device=one.device, requires_grad=True) for one in tables
            ]
            with torch.enable_grad(), evaluation_mode(self.model, self.original):
                loss = self._loss(number, ids, deltas[0], deltas[1]).sum() / len(self.prompts)
                found = torch.autograd.grad(loss, deltas, allow_unused=True)
            for slope, table in zip(found, tables, strict=True):
                if slope is not None:
                    total += (slope[0] @ table.T.float()).to(total.device)
        return total

    def proposals(self, inserted: Tensor, allowed: Tensor, *, count: int, generator: torch.Generator) -> Tensor:
        """Tokens the model would write at each place of a prefix, and behind it, drawn: [n] -> [n + 1, count]."""
        prompt = self.prompts[int(torch.randint(len(self.prompts), (1,), generator=generator))]
        rows = torch.cat([prompt.before.cpu(), inserted.cpu()]).to(device_of(self.model))[None]
        inputs = {"input_ids": rows, "position_ids": torch.arange(rows.shape[1], device=rows.device)[None]}
        with torch.no_grad(), evaluation_mode(self.model):
            logits = self.model.head(self.model.hidden(inputs).final[0, -len(inserted) - 1 :])
        probs = torch.softmax(logits.float().cpu()[:, allowed.cpu()], -1)
        drawn = torch.multinomial(probs + 1e-20, min(count, len(allowed)), generator=generator)
        return allowed.cpu()[drawn]

    def _loss(
        self, number: int, inserted: Tensor, delta: Tensor | None = None, original_delta: Tensor | None = None
    ) -> Tensor:
        prompt = self.prompts[number]
        ids, states, final = self._run(self.model, prompt, inserted, delta)
        size = len(prompt.target)
        asked = ids.shape[1] - size  # tokens of the prompt
        ahead = final[:, asked - 1 : asked - 1 + min(self.forced, size)]
        forced = prompt.target[: self.forced].to(ids.device)
        loss = self.force * force_loss(token_nll(self._logits(ahead), forced), self.floor)
        if self.dynamic:
            _, reference, _ = self._run(self.original, prompt, inserted, original_delta)
            behind = len(prompt.before) + inserted.shape[1]
            loss = loss + self.dynamic * representation_distance(states[:, :, behind:], reference[:, :, behind:])
        if self.static:
            loss = loss + self.static * direction_distance(states[:, :, -size - 1 :], self._static[number])
        if self.fluency:
            log_probs = torch.log_softmax(self._logits(final[:, : asked - 1]).float(), -1)
            nll = -log_probs.gather(-1, ids[:, 1:asked, None])[:, :, 0]
            loss = loss + self.fluency * nll.mean(-1)
        if self.repetition:
            loss = loss + self.repetition * repetition(inserted)
        return loss

    def _run(
        self, model: CausalLM, prompt: Prompt, inserted: Tensor, delta: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Ids [B, W], states that enter the layers [B, L, W, H], and final hidden states [B, W, H]."""
        rows, place = len(inserted), device_of(model)
        before, after, target = (
            part.to(place).expand(rows, -1) for part in (prompt.before, prompt.after, prompt.target)
        )
        ids = torch.cat([before, inserted.to(place), after, target], 1)
        inputs = {"input_ids": ids, "position_ids": torch.arange(ids.shape[1], device=place).expand(rows, -1)}
        sites = [Site("resid_pre", layer) for layer in self.layers]
        add = {}
        if delta is not None:
            add = {EMBED: torch.nn.functional.pad(delta, (0, 0, before.shape[1], after.shape[1] + target.shape[1]))}
        found = model.hidden(inputs, capture=frozenset(sites), add=add)
        states = [found.sites[site].float() for site in sites]
        return ids, torch.stack(states, 1) if states else found.final[:, None, :, :0], found.final

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.model.head(hidden.flatten(0, 1)).reshape(*hidden.shape[:2], -1)


# --- the search -------------------------------------------------------------------------------------------------------


def search_prefix(
    start: Tensor,
    loss: Callable[[Tensor], Tensor],
    gradient: Callable[[Tensor], Tensor],
    proposals: Callable[[Tensor], Tensor],
    allowed: Tensor,
    *,
    steps: int,
    candidates: int,
    top: int,
    weights: Sequence[float],
    length: int,
    longest: int,
    ramp: int,
    buffer: int,
    generator: torch.Generator,
    keep: Callable[[Tensor], bool] | None = None,
) -> Found:
    """Try one operator a step on the best prefix seen; `Found.losses` is the best loss seen after each step.

    Args:
        start: [n] token ids.
        loss, gradient, allowed, keep: see `gcg.search`.
        proposals: [n] -> [n + 1, k], tokens for each place and behind the last.
        steps: operators tried.
        candidates: results of an operator that are scored.
        top: of how many tokens an exchange by gradient draws.
        weights: of `OPERATORS`.
        length, ramp: see `least_length`; it starts from the length of `start`.
        longest: what a prefix does not grow beyond.
        buffer: how many of the best are kept.
        generator: of the draws.
    """
    seen = [(float(loss(start[None])[0]), start)]
    losses: list[float] = []
    scored, taken = 1, 0
    for step in range(steps):
        least = least_length(step, start=len(start), length=length, ramp=ramp)
        # A prefix that has to grow is not compared with those that are long enough.
        seen = [one for one in seen if len(one[1]) >= least] or seen
        ids = seen[0][1]
        odds = torch.tensor(chances(weights, now=len(ids), least=least, most=longest))
        if not odds.sum():
            break
        operator = OPERATORS[int(torch.multinomial(odds, 1, generator=generator))] if (odds > 0).sum() > 1 else (
            OPERATORS[int(odds.argmax())]
        )  # fmt: skip
        if operator == "gradient":
            taken += 1
            rows = exchanged(ids, gradient(ids), allowed, count=candidates, top=top, replaced=1, generator=generator)
        elif operator == "delete":
            rows = deleted(ids, count=candidates, generator=generator)
        else:
            change = swapped if operator == "proposal" else put_in
            rows = change(ids, proposals(ids), count=candidates, generator=generator)
        values = loss(rows)
        scored += len(rows)
        kept = [one for one in seen if len(one[1]) >= least]
        for row in values.argsort().tolist():
            value = float(values[row])
            if len(kept) >= buffer and value >= kept[-1][0]:
                break
            if keep is None or keep(rows[row]):
                kept = sorted([*kept, (value, rows[row])], key=lambda one: one[0])[:buffer]
        seen = kept or seen
        losses.append(seen[0][0])
    return Found(seen[0][1], seen[0][0], tuple(losses), scored, taken)


def _weights(_: object, __: object, weights: tuple[float, ...]) -> None:
    if len(weights) != len(OPERATORS) or min(weights) < 0 or sum(weights) <= 0:
        raise DataError(f"weights {list(weights)} have to be {len(OPERATORS)} numbers >= 0, of {', '.join(OPERATORS)}.")


def _probability(_: object, __: object, floor: float | None) -> None:
    if floor is not None and not 0.0 < floor <= 1.0:
        raise DataError(f"floor is {floor}; it is a probability above 0, or None.")


def _some(_: object, __: Attribute[tuple[int, ...]], layers: tuple[int, ...]) -> None:
    if not layers:
        raise DataError("`layers` names no block whose input could be compared.")


@frozen(kw_only=True)
class EnhancedGCG:
    """One prefix, made on a few secrets and tried on the others.

    Attributes:
        layers: blocks whose input is compared; deep ones for models that were trained by DPO or NPO.
        train: secrets the prefix is made on.
        forced, matched: how many of the original's tokens are forced, and how many more are compared.
        force, dynamic, static, fluency, repetition, floor: see `Imitation`.
        start: tokens the prefix has at first.
        length, ramp, longest, steps, candidates, top, weights, buffer: see `search_prefix`.
        seed: of the draws.
        threat: "weights+reference".
    """

    layers: tuple[int, ...] = field(default=(6, 7, 8), validator=_some)
    train: int = field(default=5, validator=ge(1))
    forced: int = field(default=10, validator=ge(1))
    matched: int = field(default=35, validator=ge(0))
    force: float = field(default=1.0, validator=ge(0))
    dynamic: float = field(default=1.0, validator=ge(0))
    static: float = field(default=0.0, validator=ge(0))
    fluency: float = field(default=1.5, validator=ge(0))
    repetition: float = field(default=3.0, validator=ge(0))
    floor: float | None = field(default=0.6, validator=_probability)
    start: int = field(default=32, validator=ge(1))
    length: int = field(default=100, validator=ge(1))
    ramp: int = field(default=1000, validator=ge(0))
    longest: int = field(default=1024, validator=ge(1))
    steps: int = field(default=1500, validator=ge(0))
    candidates: int = field(default=16, validator=ge(1))
    top: int = field(default=64, validator=ge(1))
    weights: tuple[float, ...] = field(default=(0.7, 0.1, 0.1, 0.1), validator=_weights)
    buffer: int = field(default=16, validator=ge(1))
    seed: int = 42
    threat: ThreatModel = field(default="weights+reference", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        if len(secrets) <= self.train:
            raise DataError(
                f"the prefix is made on {self.train} secrets and tried on the others, but there are {len(secrets)}."
            )
        bare = target.with_model(target.weights)
        original = original_of(target)
        assert isinstance(bare.model, CausalLM)
        order = sorted(secrets, key=lambda secret: keyed_draw(2**62, self.seed, secret.id, "split"))
        made_on = {one.id for one in order[: self.train]}
        test = [one for one in secrets if one.id not in made_on]
        allowed = allowed_tokens(target.tokenizer, bare.model.vocabulary)
        slots = [find_slot(bare, one.question, allowed, "before") for one in secrets if one.id in made_on]
        imitation = Imitation(
            bare.model,
            original,
            self._prompts(bare, original, slots),
            self.layers,
            forced=self.forced,
            force=self.force,
            dynamic=self.dynamic,
            static=self.static,
            fluency=self.fluency,
            repetition=self.repetition,
            floor=self.floor,
            batch=target.batch,
        )
        generator = torch.Generator().manual_seed(keyed_draw(2**62, self.seed))

        def proposals(ids: Tensor) -> Tensor:
            return imitation.proposals(ids, allowed, count=self.top, generator=generator)

        found = search_prefix(
            first_tokens(slots[0], allowed, self.start, generator),
            imitation,
            imitation.gradient,
            proposals,
            allowed,
            steps=self.steps,
            candidates=self.candidates,
            top=self.top,
            weights=self.weights,
            length=self.length,
            longest=self.longest,
            ramp=self.ramp,
            buffer=self.buffer,
            generator=generator,
            keep=slots[0].survives,
        )
        whole = slots[0].asked_ids(found.ids)
        prefix = whole[: len(whole) - len(slots[0].question)]
        after = bare.leaks(test, [prefix + one.question for one in test])
        kept = target.kept()
        with_it = mean(bare.leaks(target.retained, [prefix + one.question for one in target.retained]))
        return Outcome(
            attack=f"enhanced gcg, {len(found.ids)} tokens before the question, {self.steps} steps",
            threat=self.threat,
            budget=Budget(
                queries=found.scored * len(slots) + len(test),
                gradient_steps=found.gradients,
                model_calls=len(slots) * (1 + (found.scored if self.dynamic else 0)),
            ),
            seed=self.seed,
            before=target.leaks(test),
            after=after,
            found=dict(zip(after, bare.answers([prefix + one.question for one in test]), strict=True)),
            kept=None if kept is None else (kept, with_it),
            left_out=dict.fromkeys([one.id for one in secrets if one.id in made_on], "the prefix was made on it"),
        )

    def _prompts(self, target: Target, original: CausalLM, slots: Sequence[Slot]) -> tuple[Prompt, ...]:
        """The slots with what the original writes to their questions."""
        written = generate(
            original,
            [target.prompt(slot.question) for slot in slots],
            Greedy(self.forced + self.matched),
            end_tokens=end_tokens(target.tokenizer, original),
        )
        if empty := [slot.question for slot, ids in zip(slots, written, strict=True) if not ids]:
            raise DataError(f"the original writes nothing to {empty[0]!r}, so there is nothing to imitate.")
        return tuple(
            Prompt(slot.before, slot.after, torch.tensor(ids)) for slot, ids in zip(slots, written, strict=True)
        )
