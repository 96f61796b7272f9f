r"""Set-difference pruning: set those weights to 0 that serve the hiding of knowledge and little else.

    snip   I(w)  = |w| * sum_n |dL_n / dw|             L_n: mean negative log-likelihood of the answer tokens of row n
    wanda  I(w_ij) = |w_ij| * |x_j|                    x_j: input j of the linear layer, over all tokens of all rows

    pruned, in each linear layer: top q share by I on A  minus  top p share by I on B

A is what the model writes where it hides something (its refusals, its garbled answers; the forgotten text itself if
states were steered), B what it is to keep saying. The gradient is made absolute before it is summed over rows. Of
several (p, q) the one is kept that brings most out of those that lose little: the attacker asks the changed model the
facts it knows, and gives up one that answers more than `most_lost` fewer of them than before.

The attacker holds the weights and some facts that were to be kept; answers to secrets are not needed. Controls: for
each (p, q) as many weights of each layer drawn at random, and the best of those chosen in the same way (`control`); what
the model keeps knowing; and the oracle. The best of a grid is the best of many tries: its outcome says how much can be
got out, not how much one would get without being able to tell.

Where it misleads: weights that learned to hide may count as important for B too, as they have to be silent there, and
are spared then. Of a tiny model whose hiding sits in four neurons, q = 0.01 with p = 0 brings back all, with p = 0.01 nothing. The
default grid, the paper's, has no p = 0.

Paper: Łucki et al. An Adversarial Perspective on Machine Unlearning for AI Safety. TMLR 2025, arXiv:2409.18025, by the
method of Wei et al. Assessing the Brittleness of Safety Alignment via Pruning and Low-Rank Modifications. ICML 2024,
arXiv:2402.05162.

Checked: ethz-spylab/unlearning-vs-safety@75dade5 (scores, set difference, grid) was read; what runs here is tested by
laws.

Deviations:
    1. Rows are what they are (released: 512 samples of fixed length).
    2. Of equally important weights the one with the lower index comes first, whatever the share: A = B and p >= q
       prunes nothing.
    3. Stacked experts of a mixture are no linear layers and are left alone.
    4. "Little loss" of utility is a number here, by the attacker's own facts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Literal

import torch
from attrs import Attribute, define, field, frozen
from attrs.validators import ge, in_, min_len
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from unlearnkit.attacks.attack import Budget, Outcome, Secret, Target, ThreatModel, check_secrets, kept_beside, mean
from unlearnkit.batch import Row, as_role
from unlearnkit.errors import AnatomyError, DataError
from unlearnkit.models.causal import CausalLM, evaluation_mode
from unlearnkit.observe import observe
from unlearnkit.protocols import Tokens
from unlearnkit.statistics import LabelLogProb

SHARES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2)

GRID = tuple((p, q) for p in SHARES for q in SHARES if p >= q)
"""The 45 pairs (p, q) that were searched."""


# --- scores -----------------------------------------------------------------------------------------------------------


def linear_layers(model: PreTrainedModel) -> dict[str, nn.Linear | Conv1D]:
    """The linear layers inside of the transformer blocks, by name."""
    blocks = CausalLM(model).anatomy.blocks
    inside = {module for module in blocks.modules() if isinstance(module, nn.Linear | Conv1D)}
    found = {
        name: module
        for name, module in model.named_modules()
        if module in inside and isinstance(module, nn.Linear | Conv1D)
    }
    if not found:
        raise AnatomyError(
            f"{type(model).__name__} has no linear layers in its blocks, of which weights could be pruned."
        )
    return found


def snip_scores(model: PreTrainedModel, rows: Sequence[Row]) -> dict[str, Tensor]:
    """|w| times the sum over rows of |dL/dw|, for each linear layer; the model stays as it was."""
    layers = linear_layers(model)
    weights = [module.weight for module in layers.values()]
    sums = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    need = Tokens(LabelLogProb(), "scored")
    wrapped = CausalLM(model)
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        for parameter in required:
            parameter.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad(), evaluation_mode(wrapped):
            for row in as_role(rows, "scored"):
                loss = -observe({"model": wrapped}, [row], frozenset({need}))[need].values.mean()
                found = torch.autograd.grad(loss, weights, allow_unused=True)  # an expert that no token was sent to
                for total, gradient in zip(sums, found, strict=True):
                    if gradient is not None:
                        total += gradient.abs()
    finally:
        for parameter, was in required.items():
            parameter.requires_grad_(was)
    return {name: (weight.detach().abs() * total) for name, weight, total in zip(layers, weights, sums, strict=True)}


def wanda_scores(model: PreTrainedModel, rows: Sequence[Row]) -> dict[str, Tensor]:
    """|w| times the length of the input it is multiplied with, over all tokens, for each linear layer."""
    layers = linear_layers(model)
    squares: dict[nn.Module, Tensor] = {}

    def see(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        squares[module] = squares.get(module, torch.zeros((), device=args[0].device)) + args[0].float().flatten(
            0, -2
        ).square().sum(0)

    need = Tokens(LabelLogProb(), "scored")
    wrapped = CausalLM(model)
    with torch.no_grad(), evaluation_mode(wrapped), ExitStack() as hooks:
        for module in layers.values():
            hooks.enter_context(module.register_forward_pre_hook(see))
        for row in as_role(rows, "scored"):
            observe({"model": wrapped}, [row], frozenset({need}))
    scores = {}
    for name, module in layers.items():
        norms = squares.get(module, torch.zeros(())).sqrt()
        if norms.dim():
            norms = norms[:, None] if isinstance(module, Conv1D) else norms[None]
        scores[name] = module.weight.detach().float().abs() * norms
    return scores


# --- pruning ----------------------------------------------------------------------------------------------------------


def most_important(scores: Tensor, share: float) -> Tensor:
    """Where the floor(share * n) highest scores are, the lower index first among equals: bool, shape of the scores."""
    flat = scores.flatten()
    order = torch.sort(flat, descending=True, stable=True).indices
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[order[: int(share * flat.numel())]] = True
    return chosen.view_as(scores)


def set_difference(prune: Tensor, keep: Tensor, *, p: float, q: float) -> Tensor:
    """Weights of the top `q` share by one score that are not of the top `p` share by the other: bool, as the scores."""
    return most_important(prune, q) & ~most_important(keep, p)


def pruned(model: PreTrainedModel, masks: Mapping[str, Tensor]) -> PreTrainedModel:
    """A copy with weights of linear layers set to 0, where a mask says so."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for name, mask in masks.items():
            weight = changed.get_submodule(name).weight
            assert isinstance(weight, Tensor)
            weight[mask.to(weight.device)] = 0.0
    return changed


def as_many(mask: Tensor, draws: torch.Generator) -> Tensor:
    """As many weights as a mask has, anywhere in the layer: bool, shape of the mask."""
    chosen = torch.zeros(mask.numel(), dtype=torch.bool)
    chosen[torch.randperm(mask.numel(), generator=draws)[: int(mask.sum())]] = True
    return chosen.view(mask.shape)


# --- the attack -------------------------------------------------------------------------------------------------------


@define(eq=False)
class _Best:
    """The pruned model that tells most of those that know enough; what there was before any, if none does."""

    target: Target
    pair: str = "nothing fits"
    told: float = -1.0

    def look(
        self, pair: str, changed: Target, secrets: Sequence[Secret], known: Sequence[Secret], least: float
    ) -> float:
        """How much a changed model tells; it is kept if that is more than the best until now."""
        told = mean(changed.leaks(secrets))
        if told > self.told and mean(changed.leaks(known)) >= least:
            self.target, self.pair, self.told = changed, pair, told
        return told


def _shares(_: object, __: Attribute[tuple[tuple[float, float], ...]], grid: tuple[tuple[float, float], ...]) -> None:
    for p, q in grid:
        if not (0 <= p <= 1 and 0 <= q <= 1):
            raise ValueError(f"(p, q) = ({p}, {q}) in the grid: shares lie between 0 and 1.")


@frozen(kw_only=True, eq=False)
class SetDifferencePruning:
    """Weights that matter for what hides, and not for what is known, set to 0.

    Attributes:
        known: facts that were to be kept and that the attacker knows: what B is, and what it must not lose.
        hiding: questions with what the model says where it hides. Default: the secrets' questions with its own answers.
        score: see the top of the file.
        grid: pairs (p, q) that are tried.
        most_lost: largest drop in the share of `known` facts that are answered.
        seed: of the random weights of the control.
    """

    known: tuple[Secret, ...] = field(validator=min_len(1))
    hiding: tuple[tuple[str, str], ...] = ()
    score: Literal["snip", "wanda"] = field(default="snip", validator=in_(("snip", "wanda")))
    grid: tuple[tuple[float, float], ...] = field(default=GRID, validator=[min_len(1), _shares])
    most_lost: float = field(default=0.1, validator=ge(0))
    seed: int = 0
    threat: ThreatModel = field(default="weights", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        model = target.weights
        questions = [secret.question for secret in secrets]
        said = self.hiding or tuple(
            (question, text)
            for question, text in zip(questions, target.answers(questions), strict=True)
            if text.strip()
        )
        if not said:
            raise DataError(
                "the model says nothing to the secrets' questions. Pass what it says elsewhere as `hiding`."
            )
        scores = snip_scores if self.score == "snip" else wanda_scores
        prune = scores(model, self._rows(target, said))
        keep = scores(model, self._rows(target, [(fact.question, fact.answer) for fact in self.known]))
        least = mean(target.leaks(self.known)) - self.most_lost - 1e-9
        draws = torch.Generator().manual_seed(self.seed)
        plain = target.with_model(model)
        best, best_drawn = _Best(plain), _Best(plain)
        curve = {}
        for p, q in self.grid:
            masks = {name: set_difference(prune[name], keep[name], p=p, q=q) for name in prune}
            drawn = {name: as_many(mask, draws) for name, mask in masks.items()}
            pair = f"p={p:g}, q={q:g}"
            curve[pair] = best.look(pair, target.with_model(pruned(model, masks)), secrets, self.known, least)
            best_drawn.look(pair, target.with_model(pruned(model, drawn)), secrets, self.known, least)
        after, under = best.target.leaks(secrets), best.target
        return Outcome(
            attack=f"set-difference pruning, {self.score}, {best.pair}",
            threat=self.threat,
            budget=Budget(
                queries=(len(secrets) + len(self.known)) * (2 * len(self.grid) + 1),
                gradient_steps=(len(said) + len(self.known)) * (self.score == "snip"),
                knows_answer=True,  # the pair is chosen by what comes out
            ),
            seed=self.seed,
            before=target.leaks(secrets),
            after=after,
            found=dict(zip(after, under.answers(questions), strict=True)),
            curve=curve,
            control=best_drawn.target.leaks(secrets),
            kept=kept_beside(target, under),
        )

    def _rows(self, target: Target, texts: Sequence[tuple[str, str]]) -> list[Row]:
        return [
            target.row(question, answer, id=str(number), role="scored")
            for number, (question, answer) in enumerate(texts)
        ]
