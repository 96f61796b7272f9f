r"""GCG: a few tokens after the question that bring the model to begin as it would if it answered.

    prompt      before + s_1 … s_n + after + target                    s: the suffix, everything else stays
    loss        ce         mean_t x_t                                  x_t = -log p(target_t | what stands before it)
                mellowmax  (1/alpha) (log sum_t exp(alpha x_t) - log T)
    gradient    dL/d(one-hot of s_i) = E dL/d(embedding of s_i)        E: [V, H], the token embedding
    step        B candidates, each with `replaced` random tokens exchanged, each for one of the k tokens of smallest
                gradient there; the candidate of smallest exact loss is the next suffix

The attacker holds the weights, and knows a target text. By default that is the answer up to its keyword, which tells
how answers begin and not what they say; what the model writes beyond it is its own. With `knows_answer` the target is
the answer, and the attack can force a text into a model that never knew it: `control` is how often it forces a random
wrong answer with the same budget, and a retrained oracle is attacked in the same way. A candidate is kept only if it is
the same tokens after it has been sent as text.

Aliases:
    candidates: B, search_width (released code)
    top: k, topk (released code)
    replaced: n_replace (released code)

Paper: Zou, Wang, Carlini, Nasr, Kolter, Fredrikson. Universal and Transferable Adversarial Attacks on Aligned Language
Models. 2023, arXiv:2307.15043.

Checked: GraySwanAI/nanoGCG@d4a20a8, a re-implementation: step, losses, buffer and defaults, by reading. No numbers were
compared.

Deviations:
1. nanoGCG's mellowmax is of negative target logits without a softmax: it falls when all logits rise. Here x_t is a
   token's NLL; the other form is "raw_mellowmax".
2. Where B reaches all n * k single exchanges, each is tried once in place of being drawn.
3. A candidate is tokenized inside its whole prompt, not by itself, and after it was scored: the best that survives is
   taken. If none does, the suffix stays for that step.
4. The suffix starts as "!" n times; where that is no stable text for a tokenizer, as "x", "." or ",", or drawn.
5. The search ends early once the target is what the model would write greedily.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Literal

import torch
from attrs import evolve, field, frozen
from attrs.validators import ge, gt, in_, min_len
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from unlearnkit.attacks.attack import Budget, Outcome, Secret, Target, ThreatModel, check_secrets, mentions
from unlearnkit.batch import IGNORE
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError, NeedError
from unlearnkit.models.causal import CausalLM, device_of, evaluation_mode
from unlearnkit.protocols import Site

LossName = Literal["ce", "nll", "mellowmax", "raw_mellowmax"]
"""Mean or sum of the target tokens' NLL; a soft maximum of them, or of their negative logits."""

EMBED = Site("embed")

# --- losses -----------------------------------------------------------------------------------------------------------


def token_nll(logits: Tensor, target: Tensor) -> Tensor:
    """-log p of each target token: [B, T, V], [T] -> [B, T]."""
    log_probs = torch.log_softmax(logits.float(), -1)
    return -log_probs.gather(-1, target.expand(len(logits), -1)[:, :, None])[:, :, 0]


def mellowmax(values: Tensor, alpha: float = 1.0) -> Tensor:
    """A soft maximum between mean (alpha near 0) and maximum (alpha large): [B, T] -> [B]."""
    count = torch.tensor(float(values.shape[-1]), device=values.device)
    return (torch.logsumexp(alpha * values, -1) - count.log()) / alpha


def target_loss(logits: Tensor, target: Tensor, loss: LossName = "ce", alpha: float = 1.0) -> Tensor:
    """How far the model is from writing a target: [B, T, V], [T] -> [B]. See the top of the file."""
    if loss == "raw_mellowmax":
        chosen = logits.float().gather(-1, target.expand(len(logits), -1)[:, :, None])[:, :, 0]
        return mellowmax(-chosen, alpha)
    nll = token_nll(logits, target)
    if loss == "mellowmax":
        return mellowmax(nll, alpha)
    return nll.sum(-1) if loss == "nll" else nll.mean(-1)


# --- prompts with a place for tokens ----------------------------------------------------------------------------------


@frozen(eq=False)
class Prompt:
    """Token ids around the place where tokens are put, and what is to follow: [A], [C], [T]."""

    before: Tensor
    after: Tensor
    target: Tensor


def target_logits(model: CausalLM, prompt: Prompt, inserted: Tensor, delta: Tensor | None = None) -> Tensor:
    """Logits that predict the target behind each of some inserted rows: [B, n] -> [B, T, V].

    Args:
        model: run as it is; call `evaluation_mode` around it.
        prompt: what stands around them.
        inserted: token ids.
        delta: [B or 1, n, H], added to the inserted tokens' embeddings.
    """
    rows, place = len(inserted), device_of(model)
    before, after, target = (part.to(place) for part in (prompt.before, prompt.after, prompt.target))
    ids = torch.cat([before.expand(rows, -1), inserted.to(place), after.expand(rows, -1), target.expand(rows, -1)], 1)
    inputs = {"input_ids": ids, "position_ids": torch.arange(ids.shape[1], device=place).expand(rows, -1)}
    add: Mapping[Site, Tensor] = MappingProxyType({})
    if delta is not None:
        add = {EMBED: torch.nn.functional.pad(delta, (0, 0, len(before), len(after) + len(target)))}
    final = model.hidden(inputs, add=add).final[:, ids.shape[1] - len(target) - 1 : -1]
    logits: Tensor = model.head(final.flatten(0, 1)).reshape(rows, len(target), -1)
    return logits


def embeddings(model: CausalLM) -> Tensor:
    """What the token embedding gives for every id, whatever it does to it: [V, H], without a graph."""
    with torch.no_grad():
        table: Tensor = model.anatomy.embedding(torch.arange(model.vocabulary, device=device_of(model)))
    return table


def summed_loss(
    model: CausalLM,
    prompts: Sequence[Prompt],
    inserted: Tensor,
    *,
    loss: LossName = "ce",
    alpha: float = 1.0,
    batch: int = 64,
) -> Tensor:
    """The loss of each of some inserted rows, summed over prompts: [B, n] -> [B], `batch` rows at a time."""
    with torch.no_grad(), evaluation_mode(model):
        return torch.cat(
            [
                torch.stack([target_loss(target_logits(model, one, rows), one.target.to(rows.device), loss, alpha)
                             for one in prompts]).sum(0)
                for rows in inserted.to(device_of(model)).split(batch)
            ]
        )  # fmt: skip


def one_hot_gradient(
    model: CausalLM, prompts: Sequence[Prompt], inserted: Tensor, *, loss: LossName = "ce", alpha: float = 1.0
) -> Tensor:
    """Gradient of the summed loss by the one-hot rows of inserted tokens: [n] -> [n, V]. No parameter gets one."""
    table = embeddings(model)
    ids = inserted.to(table.device)[None]
    gradient = torch.zeros(len(inserted), table.shape[1], device=table.device)
    for prompt in prompts:
        delta = torch.zeros(1, len(inserted), table.shape[1], device=table.device, requires_grad=True)
        with torch.enable_grad(), evaluation_mode(model):
            value = target_loss(
                target_logits(model, prompt, ids, delta), prompt.target.to(table.device), loss, alpha
            ).sum()
            gradient += torch.autograd.grad(value, delta)[0][0]
    return gradient @ table.T.float()


# --- the search -------------------------------------------------------------------------------------------------------


def exchanged(
    ids: Tensor, gradient: Tensor, allowed: Tensor, *, count: int, top: int, replaced: int, generator: torch.Generator
) -> Tensor:
    """Candidates: [n] -> [count, n], each with `replaced` tokens exchanged, or all single exchanges if they are fewer.

    Args:
        ids: the suffix.
        gradient: [n, V], of the loss by its one-hot rows.
        allowed: ids that may be put in, distinct.
        count: how many are drawn.
        top: of how many allowed tokens, those of smallest gradient at a position, one is drawn.
        replaced: positions that are exchanged.
        generator: of the draws; on the CPU.

    Raises:
        DataError: fewer tokens are allowed than `top`, or the suffix is shorter than `replaced`.
    """
    if top > len(allowed):
        raise DataError(f"top is {top}, but only {len(allowed)} tokens are allowed: others would be put in. Lower it.")
    if replaced > len(ids):
        raise DataError(f"{replaced} tokens are to be exchanged in a suffix of {len(ids)}.")
    ids, choices = ids.cpu(), allowed.cpu()[gradient.cpu()[:, allowed.cpu()].topk(top, 1, largest=False).indices]
    if replaced == 1 and count >= choices.numel():
        candidates = ids.repeat(choices.numel(), 1)
        candidates[torch.arange(choices.numel()), torch.arange(len(ids)).repeat_interleave(top)] = choices.flatten()
        return candidates
    places = torch.rand(count, len(ids), generator=generator).argsort(1)[:, :replaced]
    drawn = choices[places, torch.randint(top, (count, replaced), generator=generator)]
    return ids.repeat(count, 1).scatter(1, places, drawn)


@frozen(eq=False)
class Found:
    """What a search came to.

    Attributes:
        ids: [n], the tokens of smallest loss.
        loss: of these.
        losses: of each step, the smallest of its candidates.
        scored: candidates whose exact loss was computed.
        gradients: gradients that were computed.
    """

    ids: Tensor
    loss: float
    losses: tuple[float, ...]
    scored: int
    gradients: int


def search(
    starts: Tensor,
    loss: Callable[[Tensor], Tensor],
    gradient: Callable[[Tensor], Tensor],
    allowed: Tensor,
    *,
    steps: int,
    candidates: int,
    top: int,
    replaced: int = 1,
    buffer: int = 0,
    generator: torch.Generator,
    keep: Callable[[Tensor], bool] | None = None,
    done: Callable[[Tensor], bool] | None = None,
) -> Found:
    """Greedy coordinate descent over tokens.

    Args:
        starts: [m, n] token ids; the best of them is where it starts.
        loss: [B, n] -> [B].
        gradient: [n] -> [n, V].
        allowed: see `exchanged`, as `candidates`, `top`, `replaced` and `generator`.
        steps: how often a candidate is taken.
        buffer: 0 always goes on from the best candidate, even if it is worse; b from the best of the b best seen.
        keep: whether a candidate [n] may be taken; asked from the best one on until one may.
        done: ends the search at these tokens.
    """
    values = loss(starts)
    scored = len(starts)
    order = values.argsort()[: max(1, buffer)].tolist()
    seen = [(float(values[row]), starts[row]) for row in order]
    best = seen[0]
    losses: list[float] = []
    taken = 0
    for _ in range(steps):
        parent = seen[0]
        if done is not None and done(parent[1]):
            best = parent
            break
        slope = gradient(parent[1])
        taken += 1
        rows = exchanged(parent[1], slope, allowed, count=candidates, top=top, replaced=replaced, generator=generator)
        values = loss(rows)
        scored += len(rows)
        chosen = next((row for row in values.argsort().tolist() if keep is None or keep(rows[row])), None)
        if chosen is None:
            losses.append(parent[0])
            continue
        step = (float(values[chosen]), rows[chosen])
        losses.append(step[0])
        if buffer == 0:
            seen = [step]
        else:
            seen = sorted([*seen, step], key=lambda one: one[0])[:buffer]
        best = min(best, step, key=lambda one: one[0])
    return Found(best[1], best[0], tuple(losses), scored, taken)


# --- between tokens and text ------------------------------------------------------------------------------------------


def text_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Token ids as text, blanks as they are."""
    text = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def allowed_tokens(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> Tensor:
    """Ids of tokens that are printable ASCII and no special ones, [A], ascending.

    Raises:
        NeedError: there is none.
    """
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    printable = set(string.printable) - set("\t\n\r\x0b\x0c")
    ids = [
        number
        for number in range(min(len(tokenizer), vocabulary))
        if number not in special and (text := text_of(tokenizer, [number])).strip() and set(text) <= printable
    ]
    if not ids:
        raise NeedError("none of the tokenizer's tokens is printable ASCII, so no text can be searched for.")
    return torch.tensor(ids)


Place = Literal["after", "before"]
"""Where tokens are put: after the question, or before it."""


@frozen(eq=False)
class Slot:
    """A question with a place for tokens, as text and as ids.

    Attributes:
        target: gives prompts their form.
        question: as it is.
        place: where tokens are put.
        strip: whether the text loses its outer blanks when it is put in.
        before, after: ids around the place, [A] and [C].
    """

    target: Target
    question: str
    place: Place
    strip: bool
    before: Tensor = field(factory=lambda: torch.empty(0, dtype=torch.int64))
    after: Tensor = field(factory=lambda: torch.empty(0, dtype=torch.int64))

    def asked(self, text: str) -> str:
        """The question with a text put in; with none, as it is."""
        if not text:
            return self.question
        if self.place == "before":
            return f"{text.strip() if self.strip else text} {self.question}"
        return f"{self.question} {text.strip()}" if self.strip else f"{self.question}{text}"

    def asked_ids(self, ids: Tensor) -> str:
        """The question with tokens put in."""
        return self.asked(text_of(self.target.tokenizer, ids.tolist()))

    def survives(self, ids: Tensor) -> bool:
        """Whether tokens [n] are the same after they were sent as text."""
        return torch.equal(
            self.target.prompt(self.asked_ids(ids)), torch.cat([self.before, ids.to(self.before), self.after])
        )

    def forcing(self, text: str) -> Prompt:
        """The prompt with a text to force; DataError if that holds no token."""
        return Prompt(self.before, self.after, answer_ids(self.target, self.question, text))


def answer_ids(target: Target, question: str, answer: str) -> Tensor:
    """Token ids of an answer behind its prompt, [T], up to what ends it: the first special token, a template's included."""
    labels = target.row(question, answer, id=question[:40], role="forced").labels
    ids: list[int] = labels[labels != IGNORE].tolist()
    special = set(target.tokenizer.all_special_ids) | set(target.tokenizer.added_tokens_decoder)
    end = next((place for place, token in enumerate(ids) if place and token in special), len(ids))
    return torch.tensor(ids[:end])


def find_slot(target: Target, question: str, allowed: Tensor, place: Place = "after") -> Slot:
    """Where tokens come to stand in the prompt of a question, tried out with a few of the allowed ones.

    Raises:
        NeedError: no token stays the same there.
    """
    for strip in (True, False):
        tried = Slot(target, question, place, strip)
        fits: list[tuple[Tensor, Tensor, Tensor]] = []
        for number in range(100):
            probe = allowed[keyed_draw(len(allowed), "probe", number)].expand(3)
            whole = target.prompt(tried.asked_ids(probe)).cpu()
            starts = (whole.unfold(0, 3, 1) == probe).all(1).nonzero().flatten().tolist() if len(whole) > 2 else []
            if len(starts) != 1:
                continue
            around = (whole[: starts[0]], whole[starts[0] + 3 :])
            for other, before, after in fits:
                same = torch.equal(before, around[0]) and torch.equal(after, around[1])
                if same and not torch.equal(other, probe):
                    return Slot(target, question, place, strip, *around)
            fits.append((probe, *around))
    raise NeedError(
        f"no token stays the same when it is put {place} the question {question[:40]!r} as text, with this tokenizer."
    )


def first_tokens(slot: Slot, allowed: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Tokens to start from: "!" or another mark over and over, if that is stable as text, else some drawn: [length]."""
    known = set(allowed.tolist())
    for mark in "!x.,":
        encoded: list[int] = list(slot.target.tokenizer(f" {mark}" * length, add_special_tokens=False)["input_ids"])
        if len(encoded) == length and set(encoded) <= known and slot.survives(torch.tensor(encoded)):
            return torch.tensor(encoded)
    return drawn_tokens(slot, allowed, length, generator)


def drawn_tokens(slot: Slot, allowed: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Allowed tokens that are the same after they were sent as text, drawn one after another: [length].

    Raises:
        NeedError: none was found in many tries.
    """
    ids = allowed[:0]
    for _ in range(200 * length):
        longer = torch.cat([ids, allowed[torch.randint(len(allowed), (1,), generator=generator)]])
        if slot.survives(longer):
            ids = longer
        if len(ids) == length:
            return ids
    raise NeedError(f"no {length} tokens were found that stay the same when they are sent as text.")


def wrong_keyword(secret: Secret, seed: int) -> str | None:
    """One of the wrong answers, drawn; None if there is none."""
    return secret.wrong[keyed_draw(len(secret.wrong), seed, secret.id, "wrong")] if secret.wrong else None


def misled(secret: Secret, seed: int) -> Secret | None:
    """The same question with a wrong answer in place of the right one; None if none is known."""
    wrong = wrong_keyword(secret, seed)
    return None if wrong is None else evolve(secret, answer=secret.told(wrong), keywords=(wrong,), wrong=())


# --- the attack -------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class GCG:
    """A suffix of its own for each secret; success is what the model then writes by itself.

    Attributes:
        length: tokens of the suffix.
        steps, candidates, top, replaced, buffer: see `search`; with a buffer of b, b - 1 more starts are drawn.
        loss, alpha: see `target_loss`.
        knows_answer: whether the target is the answer, and not its beginning.
        start: the target where the answer begins with its keyword.
        early_stop: whether a search ends once the model would write the target greedily.
        seed: of the draws.
        threat: "weights".
    """

    length: int = field(default=20, validator=ge(1))
    steps: int = field(default=250, validator=ge(0))
    candidates: int = field(default=512, validator=ge(1))
    top: int = field(default=256, validator=ge(1))
    replaced: int = field(default=1, validator=ge(1))
    buffer: int = field(default=0, validator=ge(0))
    loss: LossName = field(default="ce", validator=in_(("ce", "nll", "mellowmax", "raw_mellowmax")))
    alpha: float = field(default=1.0, validator=gt(0))
    knows_answer: bool = False
    start: str = field(default="The answer is", validator=min_len(1))
    early_stop: bool = True
    seed: int = 0
    threat: ThreatModel = field(default="weights", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        bare = target.with_model(target.weights)
        allowed = allowed_tokens(target.tokenizer, bare.model.vocabulary)
        spent: list[Found] = []

        def attacked(secret: Secret) -> str:
            found, asked = self._suffix(bare, secret, allowed)
            spent.append(found)
            return asked

        questions = {secret.id: attacked(secret) for secret in secrets}
        after = bare.leaks(secrets, list(questions.values()))
        control: dict[str, float] = {}
        if self.knows_answer:
            others = [other for secret in secrets if (other := misled(secret, self.seed)) is not None]
            asked = [attacked(other) for other in others]
            texts = bare.answers(asked)
            control = {other.id: mentions(text, other) for other, text in zip(others, texts, strict=True)}
        return Outcome(
            attack=f"gcg, {self.length} tokens, {self.steps} steps, target {'answer' if self.knows_answer else 'stem'}",
            threat=self.threat,
            budget=Budget(
                queries=sum(found.scored for found in spent) + len(secrets) + len(control),
                gradient_steps=sum(found.gradients for found in spent),
                knows_answer=self.knows_answer,
            ),
            seed=self.seed,
            before=target.leaks(secrets),
            after=after,
            found=dict(zip(after, bare.answers(list(questions.values())), strict=True)),
            control=control,
        )

    def _suffix(self, bare: Target, secret: Secret, allowed: Tensor) -> tuple[Found, str]:
        assert isinstance(bare.model, CausalLM)
        model = bare.model
        generator = torch.Generator().manual_seed(keyed_draw(2**62, self.seed, secret.id))
        slot = find_slot(bare, secret.question, allowed)
        wanted = secret.answer if self.knows_answer else secret.stem or self.start
        prompts = (slot.forcing(wanted),)
        starts = [first_tokens(slot, allowed, self.length, generator)]
        starts += [drawn_tokens(slot, allowed, self.length, generator) for _ in range(self.buffer - 1)]

        def written(ids: Tensor) -> bool:
            with torch.no_grad(), evaluation_mode(model):
                logits = target_logits(model, prompts[0], ids[None])
            return torch.equal(logits[0].argmax(-1).cpu(), prompts[0].target.cpu())

        found = search(
            torch.stack(starts),
            partial(summed_loss, model, prompts, loss=self.loss, alpha=self.alpha, batch=bare.batch),
            partial(one_hot_gradient, model, prompts, loss=self.loss, alpha=self.alpha),
            allowed,
            steps=self.steps,
            candidates=self.candidates,
            top=self.top,
            replaced=self.replaced,
            buffer=self.buffer,
            generator=generator,
            keep=slot.survives,
            done=written if self.early_stop else None,
        )
        return found, slot.asked_ids(found.ids)
