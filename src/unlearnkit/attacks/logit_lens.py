r"""Logit lens and tuned lens: read the next token off states in the middle of a model, before what hides it acts.

    lens_l(h)  = head(final_norm(h))                           no training
    tuned_l(h) = head(final_norm(h + A_l h + b_l)),  A = b = 0 at first,  min KL(p_model || p_tuned)

Whoever holds the weights reads the state at the token that predicts the secret, and compares a known set of candidates
by their first token. Four streams are read at each block: what leaves the block, what its attention wrote, the residual
stream between attention and MLP, and what its MLP wrote. The last block's output is the model's own choice: `before`.

To look at every layer and report the best is to choose: the more places, the better the best of them by luck. So the
place is chosen on one half of the subjects and measured on the other, and the other way round; `curve` has every place,
not chosen, on all secrets. Control: the same for a random wrong candidate in the place of the right one, and the
oracle. It misleads where candidates begin with the same token (those are left out) and where the answer up to its
keyword, which the model is given, says something by itself.

Paper: nostalgebraist. interpreting GPT: the logit lens. 2020; Belrose et al. Eliciting Latent Predictions from
Transformers with the Tuned Lens. arXiv:2303.08112; as an attack Łucki et al. An Adversarial Perspective on Machine
Unlearning for AI Safety. TMLR 2025, arXiv:2409.18025.

Checked: ethz-spylab/unlearning-vs-safety@75dade5 (streams, candidates) and AlignmentResearch/tuned-lens@abdac0c (lens,
loss, optimizer) were read; what runs here is tested by laws.

Deviations:
    1. The released attack reads the last token of a multiple-choice prompt and its four letters; here it is the token
       before the keyword, and the candidates' own first tokens.
    2. The best layer is chosen by halves of the subjects, not on what is reported.
    3. The residual stream between attention and MLP is left out where it is not the sum of what entered the block
       and what attention wrote (a norm or factor in between, or both parts at once reading the same).
    4. Of Gemma-2, OLMo-2 and Granite the lens reads attention and MLP before the norm or factor that the block puts on.
    5. The tuned lens is trained on the attacked model's own states and on as many tokens as are given (released: 2^18 a
       step). The embedding gets no translator, and translators are not centred after each step.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import ge, gt, min_len
from torch import Tensor, nn
from transformers import get_linear_schedule_with_warmup

from unlearnkit.attacks.attack import Budget, Outcome, Secret, Target, ThreatModel, check_secrets
from unlearnkit.batch import IGNORE, Row
from unlearnkit.errors import AnatomyError, DataError
from unlearnkit.models.causal import CausalLM, device_of, evaluation_mode
from unlearnkit.observe import observe
from unlearnkit.protocols import Captured, Model, Site

Stream = Literal["block", "attention", "residual", "mlp"]
"""What leaves a block, what its attention wrote, the residual stream between the two, and what its MLP wrote."""

Place = tuple[Stream, int]
"""A stream of a block."""


# --- reading ----------------------------------------------------------------------------------------------------------


def lens_logits(model: CausalLM, states: Tensor) -> Tensor:
    """What the model would say if these were its last states: [..., H] -> [..., V]."""
    return model.head(model.anatomy.final_norm(states))


def states_of(
    model: Model, texts: Sequence[Tensor], sites: Sequence[Site], *, last: bool = False, batch: int = 32
) -> dict[Site, tuple[Tensor, ...]]:
    """States of token sequences at sites, float32: for each sequence [T, ·], or, if only the last is wanted, [1, ·]."""
    needs = {site: Captured(site, "text") for site in sites}
    rows = [
        Row(str(n), "text", {"input_ids": ids.cpu()}, torch.full((len(ids),), IGNORE)) for n, ids in enumerate(texts)
    ]
    found: dict[Site, list[Tensor]] = {site: [] for site in sites}
    with torch.no_grad(), evaluation_mode(model):
        for start in range(0, len(rows), batch):
            seen = observe({"model": model}, rows[start : start + batch], frozenset(needs.values()))
            for site, need in needs.items():
                found[site] += [row[-1:].clone() if last else row for row in seen[need].split()]
    return {site: tuple(states) for site, states in found.items()}


def streams(model: CausalLM, texts: Sequence[Tensor], *, batch: int = 32) -> dict[Place, Tensor]:
    """The four streams of every block at the last token of each sequence: [N, H] each.

    Attention and MLP are there where the block has such a part (a recurrent one has no attention), the residual stream
    after attention where it is the sum of what entered the block and what attention wrote.
    """
    layers = range(len(model.anatomy.blocks))
    sites = [site for layer in layers for site in _sites_of(model, layer)]
    seen = {site: torch.cat(states) for site, states in states_of(model, texts, sites, last=True, batch=batch).items()}
    found: dict[Place, Tensor] = {}
    for layer in layers:
        before, after = seen[Site("resid_pre", layer)], seen[Site("resid_post", layer)]
        attention, mlp = seen.get(Site("attn_out", layer)), seen.get(Site("mlp_out", layer))
        if attention is not None:
            found["attention", layer] = attention
        if mlp is not None:
            found["mlp", layer] = mlp
        if attention is not None and mlp is not None:
            summed = (before + attention + mlp - after).norm() <= 0.02 * after.norm()
            if summed and _in_sequence(model, layer):
                found["residual", layer] = before + attention
        found["block", layer] = after
    return found


def _sites_of(model: CausalLM, layer: int) -> list[Site]:
    """Where a block's streams are read: what enters and leaves it, and of attention and MLP what it has."""
    sites = [Site("resid_pre", layer), Site("resid_post", layer)]
    with suppress(AnatomyError):
        model.anatomy.attention(layer)
        sites.append(Site("attn_out", layer))
    with suppress(AnatomyError):
        model.anatomy.mlp(layer)
        sites.append(Site("mlp_out", layer))
    return sites


def _in_sequence(model: CausalLM, layer: int) -> bool:
    """Whether the MLP reads what attention wrote: a change of attention's output then changes the MLP's."""
    site = Site("mlp_out", layer)
    ids = torch.zeros(1, 2, dtype=torch.int64, device=device_of(model))
    inputs = {"input_ids": ids, "position_ids": torch.arange(2, device=ids.device)[None]}
    with torch.no_grad(), evaluation_mode(model):
        plain = model.hidden(inputs, capture=frozenset({site}))
        push = torch.linspace(-1, 1, plain.final.shape[-1], device=ids.device)
        pushed = model.hidden(inputs, capture=frozenset({site}), add={Site("attn_out", layer): push})
    return not torch.equal(plain.sites[site], pushed.sites[site])


def chosen(logits: Tensor, candidates: Sequence[int]) -> int:
    """Which of the candidate tokens is most probable, the first of equals: [V] -> its place among them."""
    return int(logits[list(candidates)].argmax())


# --- the tuned lens ---------------------------------------------------------------------------------------------------


@frozen(eq=False)
class Translator:
    """An affine map of the states that leave a block, to what the final norm understands.

    Attributes:
        bias: [H].
        weight: [H, H]; None: the bias alone.
    """

    bias: Tensor
    weight: Tensor | None = None

    def __call__(self, states: Tensor) -> Tensor:
        """h + A h + b: [..., H] -> [..., H]."""
        shifted = states + self.bias
        return shifted if self.weight is None else shifted + states @ self.weight.T


def lens_loss(final: Tensor, lens: Tensor) -> Tensor:
    """KL(p_final || p_lens), summed over the vocabulary, mean over tokens: [N, V], [N, V] -> scalar >= 0, in nats."""
    return nn.functional.kl_div(
        lens.float().log_softmax(-1), final.float().log_softmax(-1), reduction="batchmean", log_target=True
    )


def tuned_lens(
    model: CausalLM,
    texts: Sequence[Tensor],
    *,
    steps: int = 250,
    learning_rate: float = 1.0,
    momentum: float = 0.9,
    texts_a_step: int = 32,
    bias_only: bool = False,
    seed: int = 0,
) -> tuple[Translator, ...]:
    """A translator for each block but the last, whose states the final norm understands: it gets the identity.

    SGD with Nesterov momentum at the rate `learning_rate * (1 - momentum)`, decaying linearly to 0, weight decay 0.001,
    gradients of all clipped to norm 1 together. Each block has a loss of its own; the model stays as it is.

    Args:
        model: whose states are translated.
        texts: token ids, [T] each.
        steps: updates. 0 leaves the logit lens.
        learning_rate, momentum: see above.
        texts_a_step: how many of the texts are used at a step.
        bias_only: learn no A.
        seed: of the order of texts.
    """
    layers = range(len(model.anatomy.blocks))
    sites = [Site("resid_post", layer) for layer in layers]
    norm = model.anatomy.final_norm
    frozen_parts = [parameter for parameter in model.parameters() if parameter.requires_grad]
    width = states_of(model, texts[:1], sites[:1])[sites[0]][0].shape[-1]
    device = device_of(model)
    dtype = next(norm.parameters(), torch.zeros(0)).dtype
    biases = [torch.zeros(width, device=device, requires_grad=True) for _ in layers[:-1]]
    weights = [torch.zeros(width, width, device=device, requires_grad=True) for _ in layers[:-1] if not bias_only]
    made = [Translator(bias, None if bias_only else weights[layer]) for layer, bias in enumerate(biases)]
    if steps > 0 and made:
        optimizer = torch.optim.SGD(
            [*biases, *weights],
            lr=learning_rate * (1 - momentum),
            momentum=momentum,
            nesterov=momentum > 0,
            weight_decay=1e-3,
        )
        scheduler = get_linear_schedule_with_warmup(optimizer, 0, steps)
        draws = random.Random(seed)
        order: list[int] = []
        try:
            for parameter in frozen_parts:
                parameter.requires_grad_(False)
            for _ in range(steps):
                while len(order) < min(texts_a_step, len(texts)):
                    order += draws.sample(range(len(texts)), len(texts))
                now, order = order[: min(texts_a_step, len(texts))], order[min(texts_a_step, len(texts)) :]
                seen = states_of(model, [texts[number] for number in now], sites, batch=len(now))
                final = lens_logits(model, torch.cat(seen[sites[-1]]).to(dtype)).detach()
                for layer, translator in enumerate(made):
                    states = translator(torch.cat(seen[sites[layer]]))
                    lens_loss(final, lens_logits(model, states.to(dtype))).backward()
                nn.utils.clip_grad_norm_([*biases, *weights], 1.0)
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()
        finally:
            for parameter in frozen_parts:
                parameter.requires_grad_(True)
    identity = Translator(torch.zeros(width, device=device))
    learned = [Translator(one.bias.detach(), None if one.weight is None else one.weight.detach()) for one in made]
    return (*learned, identity)


@frozen(kw_only=True, eq=False)
class Tuning:
    """What a tuned lens is trained on, and how; see `tuned_lens`.

    Attributes:
        texts: questions with answers, put as the model was taught; generic ones, none of the secrets.
    """

    texts: tuple[tuple[str, str], ...] = field(validator=min_len(1))
    steps: int = field(default=250, validator=ge(0))
    learning_rate: float = field(default=1.0, validator=gt(0))
    texts_a_step: int = field(default=32, validator=ge(1))
    bias_only: bool = False


# --- the attack -------------------------------------------------------------------------------------------------------


@frozen(eq=False)
class Choice:
    """A secret as a choice of the next token.

    Attributes:
        context: token ids before the keyword, [T]: question, and answer up to it.
        tokens: the first token of each candidate, distinct; the right one first.
        words: the candidates.
    """

    context: Tensor
    tokens: tuple[int, ...]
    words: tuple[str, ...]


def choice_of(target: Target, secret: Secret) -> Choice | None:
    """The first token in which keyword and wrong words differ, None if nothing is left to choose between.

    Of candidates that begin alike one is kept: the right one if it is among them.
    """
    told = {word: _tokens(target, secret, word) for word in (secret.keyword, *secret.wrong)}
    right = told[secret.keyword]
    common = {word: _common(right, ids) for word, ids in told.items() if word != secret.keyword}
    start = min(common.values(), default=0)
    first = {right[start]: secret.keyword} if start < len(right) else {}
    for word in secret.wrong:
        if common[word] == start < len(told[word]) and first:
            first.setdefault(told[word][start], word)
    if len(first) < 2:
        return None
    return Choice(torch.tensor(right[:start]), tuple(first), tuple(first.values()))


def _tokens(target: Target, secret: Secret, word: str) -> list[int]:
    ids: list[int] = (
        target.row(secret.question, secret.told(word), id=secret.id, role="choice").inputs["input_ids"].tolist()
    )
    return ids


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts begin with together."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def preferred(model: Model, choices: Mapping[str, Choice]) -> dict[str, float]:
    """1 where the model itself, with whatever guards it, finds the keyword more probable than every other candidate."""
    found, place = {}, device_of(model)
    with torch.no_grad(), evaluation_mode(model):
        for key, choice in choices.items():
            ids = choice.context[None].to(place)
            inputs = {"input_ids": ids, "position_ids": torch.arange(ids.shape[1], device=place)[None]}
            logits = model.head(model.hidden(inputs).final[:, -1])[0, list(choice.tokens)]
            found[key] = float(logits[0] > logits[1:].max())
    return found


def halves(subjects: Sequence[str], seed: int = 0) -> dict[str, int]:
    """Every subject's half, 0 or 1.

    Raises:
        DataError: all are about one subject.
    """
    distinct = sorted(set(subjects))
    if len(distinct) < 2:
        raise DataError(
            "all secrets that can be attacked are about one subject, and the layer is chosen on other subjects than it "
            "is measured on. Pass secrets about at least two, and say which by `subject`."
        )
    random.Random(seed).shuffle(distinct)
    return {subject: number % 2 for number, subject in enumerate(distinct)}


def chosen_on_the_other_half(
    hits: Mapping[Place, Mapping[str, float]], half: Mapping[str, int]
) -> tuple[dict[str, Place], dict[str, float]]:
    """For each secret the place that is best on the other half's secrets, the last of equals, and whether it hits."""
    best = {}
    for number in (0, 1):
        others = [key for key in half if half[key] != number]
        best[number] = max(reversed(list(hits)), key=lambda place: math.fsum(hits[place][key] for key in others))
    return {key: best[half[key]] for key in half}, {key: hits[best[half[key]]][key] for key in half}


@frozen(kw_only=True, eq=False)
class LogitLens:
    """The keyword's first token among those of the candidates, read at every block.

    Attributes:
        tuned: train a tuned lens and read what leaves the blocks through it; None: the logit lens, on all four streams.
        seed: of the halves, the control, and the order of training texts.
    """

    tuned: Tuning | None = None
    seed: int = 0
    threat: ThreatModel = field(default="activations", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        model = CausalLM(target.weights)
        found = {secret.id: choice_of(target, secret) for secret in secrets}
        choices = {key: choice for key, choice in found.items() if choice is not None}
        if not choices:
            raise DataError("no secret has wrong answers that begin with another token. Pass secrets with `wrong`.")
        subjects = {secret.id: secret.subject for secret in secrets if secret.id in choices}
        of_subject = halves(tuple(subjects.values()), self.seed)
        half = {key: of_subject[subject] for key, subject in subjects.items()}
        read = streams(model, [choice.context for choice in choices.values()], batch=target.batch)
        steps = tokens = 0
        if self.tuned is not None:
            texts = [
                target.row(question, answer, id=str(number), role="text").inputs["input_ids"]
                for number, (question, answer) in enumerate(self.tuned.texts)
            ]
            steps = self.tuned.steps
            tokens = steps * min(len(texts), self.tuned.texts_a_step) * sum(map(len, texts)) // len(texts)
            lens = tuned_lens(
                model,
                texts,
                steps=steps,
                learning_rate=self.tuned.learning_rate,
                texts_a_step=self.tuned.texts_a_step,
                bias_only=self.tuned.bias_only,
                seed=self.seed,
            )
            read = {place: lens[place[1]](states) for place, states in read.items() if place[0] == "block"}
        said: dict[Place, dict[str, int]] = {}
        dtype = next(model.anatomy.final_norm.parameters(), torch.zeros(0)).dtype
        for place, states in read.items():
            with torch.no_grad():
                logits = lens_logits(model, states.to(dtype)).float()
            each = zip(choices.items(), logits, strict=True)
            said[place] = {key: chosen(of_secret, choice.tokens) for (key, choice), of_secret in each}
        draws = random.Random(self.seed)
        wrong = {key: draws.randrange(1, len(choice.tokens)) for key, choice in choices.items()}
        hits = {place: {key: float(number == 0) for key, number in of.items()} for place, of in said.items()}
        missed = {place: {key: float(number == wrong[key]) for key, number in of.items()} for place, of in said.items()}
        where, after = chosen_on_the_other_half(hits, half)
        return Outcome(
            attack="logit lens" if self.tuned is None else f"tuned lens, {steps} steps",
            threat=self.threat,
            budget=Budget(queries=len(choices), gradient_steps=steps, training_tokens=tokens, knows_answer=True),
            seed=self.seed,
            measure="the keyword's first token is the most probable of the candidates'",
            before=preferred(target.model, choices),
            after=after,
            chance=math.fsum(1 / len(choice.tokens) for choice in choices.values()) / len(choices),
            found={key: choices[key].words[said[place][key]] for key, place in where.items()},
            curve={f"{place[0]} {place[1]}": math.fsum(of.values()) / len(of) for place, of in hits.items()},
            control=chosen_on_the_other_half(missed, half)[1],
            left_out={
                key: "it has no wrong answer that begins with another token." for key in found if key not in choices
            },
        )
