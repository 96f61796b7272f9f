r"""Unlearning Depth Score (UDS): is the knowledge gone from inside the model, or only from what it says?

Hidden states of another model are patched into the model that knows everything ("full"), at one block's output and at
the positions that predict the answer. If the full model still tells the answer, the patched states carried it.

    Delta_S,l = s - s_patched(S, l),    s = mean log p of the answer's tokens in the full model, S the states' source
    KE        = {l : Delta_retrained,l > tau}                              blocks that encode the knowledge
    UDS       = sum_KE Delta_retrained,l clip(Delta_unlearned,l / Delta_retrained,l, 0, 1) / sum_KE Delta_retrained,l

In [0, 1], higher: better forgotten. 0: the states of the unlearned model carry all the knowledge; 1: as little of it as
those of a model that was retrained without the forget set. Exactly 0 for the full model, exactly 1 for the retrained.
An example without any block in KE says nothing and is left out: the retrained model guesses it, or it sits elsewhere.

Needs three models of one architecture. Mark as supervised what is to be known, the name or number in question and not
the words around it nor the end token: only these positions are patched and scored. A model whose hidden states were
rotated or rescaled as a whole scores 1, whatever it knows.

Paper: Lee et al. Measuring the Depth of LLM Unlearning via Activation Patching. 2026, arXiv:2605.24614.

Checked: read in gnueaj/unlearning-depth-score@fc31639 (the authors' code, `compute_uds.py`); the score against its
definition worked out layer by layer, and against that repository's logit-lens score, which is the same function of
other log-probs (1e-7: it adds 1e-8 to divisors).

Deviations: as a source, the released code takes transformers' list of hidden states, whose last entry comes after the
final norm, and puts it in front of that norm: for the last block it patches states that no model has there. Here they
are the block's output. Patching is adding the difference, which in half precision is off by a rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from attrs import evolve, frozen
from torch import Tensor
from transformers import PreTrainedModel

from unlearnkit.batch import Collate, Row, collate_text
from unlearnkit.errors import DataError
from unlearnkit.models.causal import CausalLM, as_model, device_of, evaluation_mode
from unlearnkit.models.peft import PeftModel
from unlearnkit.observe import observe
from unlearnkit.plan import cut
from unlearnkit.procedures.gradient_norm import ROLE, measured
from unlearnkit.protocols import Captured, Flat, Hidden, Model, Score, Site, Tokens, resid_post
from unlearnkit.statistics import LabelLogProb


def depth_score(retrained: Tensor, unlearned: Tensor, *, threshold: float = 0.05) -> Tensor:
    """UDS of each example from what patching each block costs: [..., L], [..., L] -> [...], in [0, 1].

    Args:
        retrained: [..., L] fall of the answer's mean log-prob, in nats per token, patched from the retrained model.
        unlearned: [..., L] the same, patched from the unlearned model.
        threshold: tau, at least 0; blocks that cost more with the retrained model encode the knowledge. None: nan.
    """
    encoding = retrained > threshold
    erased = torch.minimum(unlearned.clamp(min=0.0), retrained)  # Delta_r * clip(Delta_u / Delta_r, 0, 1)
    return torch.where(encoding, erased, 0.0).sum(-1) / torch.where(encoding, retrained, 0.0).sum(-1)  # 0/0 = nan


def unlearning_depth(
    full: Model | PreTrainedModel | PeftModel,
    retrained: Model | PreTrainedModel | PeftModel,
    unlearned: Model | PreTrainedModel | PeftModel,
    rows: Sequence[Row],
    *,
    layers: Sequence[int] | None = None,
    threshold: float = 0.05,
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> Score:
    """Mean `depth_score` over examples. Higher: better forgotten.

    One pass of each model and, for each layer, two more of the full one. `parts` has the mean cost of patching each
    block: "retrained[l]" and "unlearned[l]", in nats per token.

    Args:
        full: the model before unlearning, which is patched.
        retrained: trained without the forget set.
        unlearned: what is measured.
        rows: whose supervised tokens are looked for; one that no block encodes is left out.
        layers: blocks to patch, from 0. Default: all.
        threshold: tau, in nats per token.
        max_tokens: padded tokens per batch.
        collate: see `observe`.

    Raises:
        DataError: no rows, two of one id, models of different width or depth, no layers, or a threshold below 0.
        AnatomyError: a block that a model does not have.
        VocabularyError: tokens that the full model does not have.
    """
    if not threshold >= 0:
        raise DataError(f"threshold is {threshold}; it has to be 0 or above.")
    models = {"model": as_model(full), "retrained": as_model(retrained), "unlearned": as_model(unlearned)}
    chosen = _all_layers(models) if layers is None else tuple(layers)
    if not chosen:
        raise DataError("layers is empty: there is no block to patch.")
    renamed = measured(rows, models["model"].vocabulary)
    costs: dict[str, Tensor] = {}
    with torch.no_grad(), evaluation_mode(*models.values()):
        for piece in cut(renamed, max_tokens):
            each = torch.stack(
                [_costs(models, piece, source, chosen, collate) for source in ("retrained", "unlearned")]
            )
            costs.update(zip((row.id for row in piece), each.unbind(1), strict=True))
    both = torch.stack([costs[row.id] for row in renamed])  # [rows, 2, layers]
    scores = depth_score(both[:, 0], both[:, 1], threshold=threshold)
    of_layers = both.nanmean(0)
    parts = {
        f"{source}[{layer}]": float(value)
        for source, values in zip(("retrained", "unlearned"), of_layers, strict=True)
        for layer, value in zip(chosen, values, strict=True)
    }
    score = Score.mean(dict(zip((row.id for row in renamed), scores.tolist(), strict=True)), "forgetting")
    return evolve(score, parts=parts)


@frozen(eq=False)
class _Patched:
    """A model with something added at sites, whatever it runs."""

    inner: Model
    add: Mapping[Site, Tensor]

    @property
    def vocabulary(self) -> int:
        return self.inner.vocabulary

    @property
    def device(self) -> torch.device:
        return device_of(self.inner)

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        return self.inner.hidden(inputs, capture=capture, add={**add, **self.add}, cache=cache)

    def head(self, hidden: Tensor, /) -> Tensor:
        return self.inner.head(hidden)

    def new_cache(self) -> object:
        return self.inner.new_cache()


def _costs(
    models: Mapping[str, Model], rows: Sequence[Row], source: str, layers: Sequence[int], collate: Collate
) -> Tensor:
    """Fall of each row's mean answer log-prob for each patched block: [rows, layers] float64, on the CPU."""
    tokens = Tokens(LabelLogProb(), ROLE)
    sites = {
        of: [Captured(resid_post(layer), ROLE, of=of, positions="answer") for layer in layers]
        for of in ("model", source)
    }
    seen = observe(models, rows, frozenset({tokens, *sites["model"], *sites[source]}), collate=collate)
    where = collate(rows).answer
    costs = []
    for own, other in zip(sites["model"], sites[source], strict=True):
        before, after = seen[own].values, seen[other].values
        if before.shape != after.shape:
            raise DataError(
                f"{own.site} is {before.shape[1]} wide in the full model and {after.shape[1]} in the {source} one. "
                "States can be patched between models of one architecture only."
            )
        delta = before.new_zeros(*where.shape, before.shape[1])
        delta[where.to(delta.device)] = after - before
        patched = _Patched(models["model"], {own.site: delta})
        told = observe({"model": patched}, rows, frozenset({tokens}), collate=collate)[tokens]
        costs.append(_means(seen[tokens]) - _means(told))
    return torch.stack(costs, 1)


def _means(flat: Flat) -> Tensor:
    """Mean of each row's values: [rows] float64, on the CPU; nan for a row without any."""
    return Flat(flat.values.double().cpu(), flat.row.cpu(), flat.rows).sums() / flat.counts().cpu()


def _all_layers(models: Mapping[str, Model]) -> tuple[int, ...]:
    depths = {}
    for name, model in models.items():
        if not isinstance(model, CausalLM):
            raise DataError(f"how many blocks {type(model).__name__} has is not known. Pass layers=range(...).")
        depths[name] = len(model.anatomy.blocks)
    if len(set(depths.values())) > 1:
        raise DataError(f"the models have different numbers of blocks: {depths}. They have to be of one architecture.")
    return tuple(range(depths["model"]))
