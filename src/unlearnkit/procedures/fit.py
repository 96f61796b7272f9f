r"""FIT: continual unlearning of one text after another; filter what was asked for before, then choose loss and layers.

For each request (a text):

    1. filter      cut it into short chunks; drop one that resembles the memory (largest cosine >= similarity) and whose
                   removal hardly changes the mean NLL of the text (|difference| <= effect)
    2. layers      blocks ranked by |NLL with all parameters of the block set to 0 - NLL|; the first few are trained,
                   and of them attention and MLP only
    3. importance  s = || d NLL / d input embeddings ||_2 over the whole text, NLL its mean
                   s >= 12: NPO + KL on retain text     6 <= s < 12: NPO     s < 6: random labels
    4. train, and append the embeddings of the kept chunks to the memory

The first request is kept whole. Where nothing is left of a request the model is not touched. The memory is a value:
it goes in, and a longer one comes out.

    memory = Memory()
    for text in requests:
        done = fit(model, tokenizer, text, memory, embed=embed, reference=original, retain=rows)
        memory = done.memory

Aliases:
    similarity: tau (paper), similarity_threshold (released code)
    effect: epsilon (paper and released code)
    layers: k (paper), topk_for_forget (released code)

Paper: Xu, Du, Fang, Liang, Xiao, Huang, Hong, Ye, Hu. FIT. 2026, arXiv:2601.21682.

Checked: XiaoyuXU1/FIT@360a77b. Its losses to 1e-9 (with NPO, RetainKL and CrossEntropy), the rest by laws; filter,
importance, masking and schedule were read and are the same up to the following.

Deviations:
1. The released retain term is -sum P log P_ref, a cross-entropy from the model: its minimum is a point mass, not the
   reference. Here it is `RetainKL`, KL(reference || model), as the paper says.
2. In the released NPO gradients are cleared once per epoch, so that they pile up over chunks; here at every step.
3. The released retain text of a chunk is the same window of the requests still to come; here `retain` rows are drawn.
4. Texts are cut at `max_length` tokens where the release has three limits (128, 4096, none); layers use 128 as there.
5. A text of fewer than two tokens has a mean NLL of 0 and is not trained on; the release gets nan for a single token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from attrs import Attribute, evolve, field, frozen
from attrs.validators import ge, gt
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.adversaries.rows import clean_states, slopes
from unlearnkit.batch import Row, check_tokenizer, tokenize_text
from unlearnkit.data.random_labels import random_labels
from unlearnkit.errors import DataError
from unlearnkit.models.causal import CausalLM, as_model, evaluation_mode
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.npo import NPO
from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.observe import Perturbation, observe
from unlearnkit.protocols import Embed, Needs, Objective, Seen, Site, Tokens
from unlearnkit.statistics import LabelLogProb
from unlearnkit.train import Run, unlearn

LossName = Literal["npo_kl", "npo", "random_labels"]
"""What a request is unlearned with."""

ROLE = "forget"


def _ascending(_: object, __: Attribute[tuple[float, float]], thresholds: tuple[float, float]) -> None:
    if not 0 <= thresholds[0] <= thresholds[1]:
        raise ValueError(f"thresholds are {thresholds}; they have to be two numbers from 0 on, the lower one first.")


@frozen(kw_only=True)
class FitSettings:
    """The numbers of FIT; the defaults are those of the authors' script.

    Attributes:
        similarity: cosine to the memory from which on a chunk is looked at more closely.
        effect: change of the text's mean NLL above which such a chunk is kept all the same.
        filter_chunk: characters of a chunk that is filtered.
        layers: how many blocks are trained.
        thresholds: of the importance: below the first one random labels, from the second one on NPO with KL.
        train_chunk: characters of a chunk that is trained on, one per step.
        beta: of NPO.
        epochs, learning_rate, warmup, weight_decay, betas: of AdamW. The rate rises for a share `warmup` of all steps,
            and falls to a tenth along a cosine.
        max_length: tokens of a text that are looked at.
        layer_length: the same for ranking layers.
        seed: of random labels and of the order of chunks.
    """

    similarity: float = 0.9
    effect: float = field(default=0.2, validator=ge(0.0))
    filter_chunk: int = field(default=8, validator=ge(1))
    layers: int = field(default=8, validator=ge(1))
    thresholds: tuple[float, float] = field(default=(6.0, 12.0), validator=_ascending)
    train_chunk: int = field(default=1024, validator=ge(1))
    beta: float = field(default=0.1, validator=gt(0.0))
    epochs: int = field(default=3, validator=ge(1))
    learning_rate: float = field(default=3e-5, validator=gt(0.0))
    warmup: float = field(default=0.1, validator=ge(0.0))
    weight_decay: float = field(default=0.1, validator=ge(0.0))
    betas: tuple[float, float] = (0.9, 0.95)
    max_length: int = field(default=4096, validator=ge(2))
    layer_length: int = field(default=128, validator=ge(2))
    seed: int = 0


@frozen(eq=False)
class Memory:
    """Embeddings of the chunks that were unlearned so far: [n, D]; none at the beginning."""

    embeddings: Tensor = field(factory=lambda: torch.zeros(0, 0))

    def __len__(self) -> int:
        return len(self.embeddings)

    def plus(self, embeddings: Tensor) -> Memory:
        """A longer memory; this one stays as it is."""
        new = embeddings.detach().float().cpu()
        return Memory(torch.cat([self.embeddings, new]) if len(self) else new.clone())


@frozen(eq=False)
class Filtered:
    """What is left of a request.

    Attributes:
        text: the kept chunks, put together.
        kept, dropped: chunks, in order.
        embeddings: of the kept ones, [n, D].
    """

    text: str
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    embeddings: Tensor


@frozen(eq=False)
class FitPlan:
    """What FIT decides about a request before it trains.

    Attributes:
        filtered: what is left of the request; nothing else is there if that is nothing.
        layer_effects: change of the mean NLL without each block.
        layers: the blocks that are trained, by falling effect.
        importance: norm of the NLL's gradient with respect to input embeddings.
        loss: what they are trained with.
    """

    filtered: Filtered
    layer_effects: tuple[float, ...] = ()
    layers: tuple[int, ...] = ()
    importance: float | None = None
    loss: LossName | None = None


@frozen(eq=False)
class Fit:
    """A finished request.

    Attributes:
        plan: what was decided.
        memory: with the kept chunks of this request.
        run: its training; None where nothing was left to unlearn.
    """

    plan: FitPlan
    memory: Memory
    run: Run | None


# --- filter -----------------------------------------------------------------------------------------------------------


def character_chunks(text: str, size: int) -> tuple[str, ...]:
    """A text without space at its ends in pieces of `size` characters, blank ones left out."""
    text = text.strip()
    pieces = (text[start : start + size] for start in range(0, len(text), size))
    return tuple(piece for piece in pieces if piece.strip())


def closeness(embeddings: Tensor, memory: Tensor) -> Tensor:
    """Largest cosine of each embedding to a memory: [n, D], [M, D] -> [n]; -inf for an embedding that is 0, or M = 0."""
    if not len(memory):
        return torch.full_like(embeddings[:, 0], -torch.inf)
    cosines = torch.nn.functional.normalize(embeddings, dim=1) @ torch.nn.functional.normalize(memory, dim=1).T
    return torch.where((embeddings == 0).all(1), -torch.inf, cosines.amax(1))


def filter_request(
    text: str,
    memory: Memory,
    *,
    embed: Embed,
    mean_nll: Callable[[str], float],
    settings: FitSettings = FitSettings(),
) -> Filtered:
    """Drop chunks that resemble the memory and hardly matter.

    Args:
        text: of the request.
        memory: of earlier requests; without any, all is kept.
        embed: sentence embeddings.
        mean_nll: of a text under the model, which can be empty.
        settings: `similarity`, `effect` and `filter_chunk` are read.
    """
    chunks = character_chunks(text, settings.filter_chunk)
    if not chunks:
        return Filtered("", (), (), torch.zeros(0, memory.embeddings.shape[1]))
    embeddings = embed([chunk.strip() for chunk in chunks]).detach().float().cpu()
    if not len(memory):
        return Filtered(text.strip(), chunks, (), embeddings)
    whole: float | None = None
    keep = []
    for chunk, close in zip(chunks, closeness(embeddings, memory.embeddings).tolist(), strict=True):
        if close < settings.similarity:
            keep.append(True)
            continue
        whole = mean_nll("".join(chunks)) if whole is None else whole
        without = mean_nll("".join(other for other in chunks if other != chunk))
        keep.append(abs(whole - without) > settings.effect)
    kept = tuple(chunk for chunk, kept in zip(chunks, keep, strict=True) if kept)
    dropped = tuple(chunk for chunk, kept in zip(chunks, keep, strict=True) if not kept)
    return Filtered("".join(kept), kept, dropped, embeddings[torch.tensor(keep)])


# --- what the model says of a text ------------------------------------------------------------------------------------


def text_row(tokenizer: PreTrainedTokenizerBase, text: str, *, max_length: int) -> Row | None:
    """The first tokens of a text, all supervised but the very first; None if there are fewer than two."""
    if len(list(tokenizer(text, return_attention_mask=False)["input_ids"])) < 2:
        return None
    return tokenize_text(tokenizer, text, id="request", role=ROLE, max_length=max_length)[0]


def row_nll(model: CausalLM, row: Row) -> float:
    """Mean NLL of a row's supervised tokens, in nats."""
    need = Tokens(LabelLogProb(), row.role)
    with torch.no_grad(), evaluation_mode(model):
        return -float(observe({"model": model}, [row], frozenset({need}))[need].values.double().mean())


def importance(model: CausalLM, row: Row) -> float:
    """L2 norm of the gradient of a row's mean NLL with respect to its input embeddings, all of them together."""

    def ask(needs: Needs, rows: Sequence[Row], add: Perturbation = {}, /) -> Seen:  # noqa: B006 (only read)
        return observe({"model": model}, rows, needs, add=add)

    site = Site("embed")
    with evaluation_mode(model):
        start = {row: torch.zeros_like(states) for row, states in clean_states(ask, [row], row.role, site).items()}
        return float(slopes(ask, [row], row.role, site, start)[row].double().norm())


def chosen_loss(importance: float, *, thresholds: tuple[float, float] = (6.0, 12.0)) -> LossName:
    """Random labels below the first threshold, NPO below the second one, NPO with KL from there on."""
    if importance >= thresholds[1]:
        return "npo_kl"
    return "npo" if importance >= thresholds[0] else "random_labels"


# --- layers -----------------------------------------------------------------------------------------------------------


def layer_effects(model: CausalLM, row: Row) -> tuple[float, ...]:
    """|change of a row's mean NLL| while all parameters of a block are 0, for each block; the model stays as it is."""
    whole = row_nll(model, row)
    effects = []
    for block in model.anatomy.blocks:
        with _zeroed(block):
            effects.append(abs(row_nll(model, row) - whole))
    return tuple(effects)


@contextmanager
def _zeroed(block: nn.Module) -> Iterator[None]:
    """All parameters 0, and the very same bits as before when this ends."""
    before = {parameter: parameter.detach().clone() for parameter in block.parameters()}
    try:
        with torch.no_grad():
            for parameter in before:
                parameter.zero_()
        yield
    finally:
        with torch.no_grad():
            for parameter, value in before.items():
                parameter.copy_(value)


def strongest(effects: Sequence[float], number: int) -> tuple[int, ...]:
    """The places of the largest effects, largest first; of equals the first."""
    return tuple(sorted(range(len(effects)), key=lambda layer: -effects[layer])[:number])


def trained_parameters(model: CausalLM, layers: Sequence[int]) -> list[nn.Parameter]:
    """Attention and MLP of some blocks."""
    parts = model.anatomy
    return [
        parameter for layer in layers for part in (parts.attention, parts.mlp) for parameter in part(layer).parameters()
    ]


# --- the procedure ----------------------------------------------------------------------------------------------------


def fit_plan(
    model: PreTrainedModel | CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    request: str,
    memory: Memory,
    *,
    embed: Embed,
    settings: FitSettings = FitSettings(),
) -> FitPlan:
    """Steps 1 to 3, which leave the model as it is; arguments and errors as in `fit`."""
    wrapped = _wrapped(model, tokenizer)

    def mean_nll(text: str) -> float:
        row = text_row(tokenizer, text.strip(), max_length=settings.max_length)
        return 0.0 if row is None else row_nll(wrapped, row)

    filtered = filter_request(request, memory, embed=embed, mean_nll=mean_nll, settings=settings)
    row = text_row(tokenizer, filtered.text, max_length=settings.max_length)
    if row is None:
        return FitPlan(filtered)
    short = text_row(tokenizer, filtered.text, max_length=settings.layer_length)
    assert short is not None
    effects = layer_effects(wrapped, short)
    score = importance(wrapped, row)
    return FitPlan(
        filtered,
        layer_effects=effects,
        layers=strongest(effects, settings.layers),
        importance=score,
        loss=chosen_loss(score, thresholds=settings.thresholds),
    )


def fit(
    model: PreTrainedModel | CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    request: str,
    memory: Memory,
    *,
    embed: Embed,
    reference: PreTrainedModel | CausalLM,
    retain: Sequence[Row] = (),
    settings: FitSettings = FitSettings(),
) -> Fit:
    """Unlearn one request.

    Args:
        model: trained in place.
        tokenizer: the model's.
        request: a text.
        memory: what the request before returned; `Memory()` at the first one.
        embed: sentence embeddings of chunks; the authors' is SimCSE, with the first token pooled.
        reference: the model before all requests, for NPO and KL.
        retain: rows that the KL is taken on, of role "retain"; needed as soon as a request is important.
        settings: numbers.

    Raises:
        DataError: no retain rows where NPO with KL is chosen, or a model whose blocks are not known.
        VocabularyError: the tokenizer is not the model's.
    """
    wrapped = _wrapped(model, tokenizer)
    plan = fit_plan(wrapped, tokenizer, request, memory, embed=embed, settings=settings)
    if plan.loss is None:
        return Fit(plan, memory, None)
    if plan.loss == "npo_kl" and not retain:
        raise DataError(
            f"the request's importance is {plan.importance:.3g}, for which NPO with KL is chosen, but there are no retain "
            "rows. Pass retain=..., or higher settings.thresholds."
        )
    rows = _training_rows(tokenizer, plan.filtered.text, settings)
    steps = settings.epochs * len(rows)
    if plan.loss == "random_labels":
        vocabulary = min(len(tokenizer), wrapped.vocabulary)
        rows = random_labels(rows, vocabulary, seed=settings.seed, draws=settings.epochs)
    optimizer = torch.optim.AdamW(
        trained_parameters(wrapped, plan.layers),
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
    )
    warmup = int(settings.warmup * steps)
    objectives: dict[LossName, Objective] = {
        "npo_kl": NPO(beta=settings.beta, role=ROLE) + RetainKL("retain"),
        "npo": NPO(beta=settings.beta, role=ROLE),
        "random_labels": CrossEntropy(ROLE),
    }
    run = unlearn(
        wrapped,
        objectives[plan.loss],
        {ROLE: rows, "retain": [evolve(row, role="retain") for row in retain]}
        if plan.loss == "npo_kl"
        else {ROLE: rows},
        optimizer=optimizer,
        scheduler=LambdaLR(optimizer, lambda step: rate_share(step, steps=steps, warmup=warmup)),
        steps=steps,
        batch_size=1,
        models={} if plan.loss == "random_labels" else {"reference": reference},
        seed=settings.seed,
    )
    return Fit(plan, memory.plus(plan.filtered.embeddings), run)


def rate_share(step: int, *, steps: int, warmup: int, least: float = 0.1) -> float:
    """Share of the learning rate at a step: from 0 up in `warmup` steps, then down to `least` along a cosine."""
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _training_rows(tokenizer: PreTrainedTokenizerBase, text: str, settings: FitSettings) -> tuple[Row, ...]:
    """The text in chunks of characters, as rows; a chunk of a single token predicts nothing and is left out."""
    chunks = (text[start : start + settings.train_chunk] for start in range(0, len(text), settings.train_chunk))
    rows = [
        evolve(row, id=f"chunk{number}", group=f"chunk{number}")
        for number, chunk in enumerate(chunks)
        if (row := text_row(tokenizer, chunk, max_length=settings.max_length)) is not None
    ]
    return tuple(rows)


def _wrapped(model: PreTrainedModel | CausalLM, tokenizer: PreTrainedTokenizerBase) -> CausalLM:
    wrapped = as_model(model)
    if not isinstance(wrapped, CausalLM):
        raise DataError(f"{type(model).__name__} has no blocks that are known; pass a model of transformers.")
    check_tokenizer(tokenizer, wrapped.vocabulary)
    return wrapped
