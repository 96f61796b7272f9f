"""Methods by the names people say: an objective with its retain term, and which parameters it trains.

A recipe is what the command line and the benchmark run; nothing more. In Python, write the objective itself:
`NPO(beta=0.1) + 1.0 * CrossEntropy("retain")`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen
from torch import nn
from transformers import PreTrainedModel

from unlearnkit.errors import DataError
from unlearnkit.models.anatomy import anatomy, mlp_down_names
from unlearnkit.objectives import (
    CATNIP,
    CEU,
    DPO,
    EUL,
    FLAT,
    IHL,
    KTO,
    ME,
    NPO,
    RMU,
    TNPO,
    UNDIAL,
    WGA,
    AdaptiveRMU,
    CrossEntropy,
    ElasticReward,
    GradDiff,
    GradientAscent,
    GradientAscentKL,
    IdkNLL,
    RetainKL,
    SatImp,
    SimNPO,
    Unlikelihood,
)
from unlearnkit.protocols import Objective


@frozen
class Recipe:
    """A named method.

    Attributes:
        name: what it is called.
        objective: makes the objective for a model (RMU wants to know its width and depth).
        trains: the names of the parameters it trains; None: all.
        learning_rate: the literature's, for models of billions of parameters.
    """

    name: str
    objective: Callable[[PreTrainedModel], Objective]
    trains: Callable[[PreTrainedModel], frozenset[str]] | None = None
    learning_rate: float = 1e-5

    def parameters(self, model: PreTrainedModel) -> list[nn.Parameter]:
        """What the optimizer should hold."""
        if self.trains is None:
            return list(model.parameters())
        names = self.trains(model)
        return [parameter for name, parameter in model.named_parameters() if name in names]


def rmu_layer(model: PreTrainedModel) -> int:
    """The block RMU steers: about a fifth into the model (7 of 32 in the paper), and never before the third if there
    is one, because the two blocks before it are trained as well."""
    blocks = len(anatomy(model).blocks)
    return min(max(2, round(7 / 32 * blocks)), blocks - 1)


def _rmu(model: PreTrainedModel) -> Objective:
    width: int = model.config.get_text_config().hidden_size
    return RMU(layer=rmu_layer(model), hidden_size=width)


def _adaptive_rmu(model: PreTrainedModel) -> Objective:
    width: int = model.config.get_text_config().hidden_size
    return AdaptiveRMU(layer=rmu_layer(model), hidden_size=width)


def rmu_parameters(model: PreTrainedModel) -> frozenset[str]:
    """The down-projections of the block that is steered and of the two before it."""
    layer = rmu_layer(model)
    return mlp_down_names(model, range(max(0, layer - 2), layer + 1))


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("ga", lambda _: GradientAscent()),
        Recipe("grad_diff", lambda _: GradDiff()),
        Recipe("ga_kl", lambda _: GradientAscentKL()),
        Recipe("npo", lambda _: NPO()),
        Recipe("npo_nll", lambda _: NPO() + CrossEntropy("retain")),
        Recipe("npo_kl", lambda _: NPO() + RetainKL()),
        Recipe("simnpo", lambda _: 0.125 * SimNPO() + CrossEntropy("retain")),
        Recipe("idk_nll", lambda _: IdkNLL()),
        Recipe("dpo_idk", lambda _: DPO() + CrossEntropy("retain")),
        Recipe("rmu", _rmu, rmu_parameters, learning_rate=5e-5),
        Recipe("adaptive_rmu", _adaptive_rmu, rmu_parameters, learning_rate=5e-5),
        Recipe("wga", lambda _: WGA() + CrossEntropy("retain")),
        Recipe("tnpo", lambda _: TNPO() + CrossEntropy("retain")),
        Recipe("satimp", lambda _: SatImp() + 0.1 * CrossEntropy("retain")),
        Recipe("undial", lambda _: UNDIAL() + CrossEntropy("retain"), learning_rate=1e-4),
        Recipe("ce_u", lambda _: CEU()),
        Recipe("ihl", lambda _: IHL() + CrossEntropy("retain")),
        Recipe("me_gd", lambda _: 0.1 * ME() + CrossEntropy("retain")),
        Recipe("catnip", lambda _: CATNIP() + CrossEntropy("retain")),
        Recipe("eul", lambda _: EUL() + CrossEntropy("retain")),
        Recipe("unlikelihood", lambda _: Unlikelihood() + 4.0 * CrossEntropy("retain"), learning_rate=5e-5),
        Recipe("flat", lambda _: FLAT()),
        Recipe("kto_forget", lambda _: KTO() + CrossEntropy("retain")),
        Recipe("eru", lambda _: ElasticReward() + CrossEntropy("retain")),
    )
}
"""Every recipe by name, with the literature's default hyper-parameters."""


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        DataError: there is none; lists those there are.
    """
    if name not in RECIPES:
        raise DataError(f"there is no method {name!r}; the methods are {', '.join(RECIPES)}.")
    return RECIPES[name]
