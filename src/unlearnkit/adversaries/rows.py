"""What attacks on hidden states share: where each attacked row starts from, and the slope of its answer's loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unlearnkit.batch import Row
from unlearnkit.observe import Observe
from unlearnkit.protocols import Captured, Site, Tokens
from unlearnkit.statistics import LabelLogProb


def clean_states(observe: Observe, rows: Sequence[Row], role: str, site: Site) -> dict[Row, Tensor]:
    """The unperturbed hidden states of a role's rows at a site: [len(row), D] each.

    Where the role has no row, all rows get zeros: the attack then runs along with those of other processes.
    """
    need = Captured(site, role)
    with torch.no_grad():
        states = observe(frozenset({need}), rows)[need]
    mine = [row for row in rows if row.role == role]
    if mine:
        return dict(zip(mine, states.split(), strict=True))
    return {row: states.values.new_zeros(len(row), states.values.shape[-1]) for row in rows}


def slopes(
    observe: Observe, rows: Sequence[Row], role: str, site: Site, deltas: Mapping[Row, Tensor]
) -> dict[Row, Tensor]:
    """Gradient of each row's mean answer NLL with respect to its own perturbation: [len(row), D] each.

    Rows do not see each other, so that one backward pass of the sum finds them all.
    """
    leaves = {row: delta.detach().requires_grad_() for row, delta in deltas.items()}
    need = Tokens(LabelLogProb(), role)
    with torch.enable_grad():
        log_probs = observe(frozenset({need}), rows, {site: leaves})[need]
        nll = -log_probs.means().sum()
        found = torch.autograd.grad(nll, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))
