r"""Random labels: the inputs stay as they are, and each supervised token is to be answered by one drawn at random.

    label_t ~ Uniform{0, ..., V - 1}, independent;    then L = mean_t -log p(label_t | x_<t)

Train it with `CrossEntropy("forget")`. Labels are drawn once and know nothing of the true ones; some are true by
accident (one in V). Averaged over many draws the gradient at a position is that of KL(U || p), `UniformKL`'s; a single
draw pulls towards one token, and is learned by heart if it is repeated.

Paper: Yao, Chien, Du et al. Machine Unlearning of Pre-trained Large Language Models. ACL 2024, arXiv:2402.15159.

Checked: laws only (the authors' code yaojin17/Unlearning_LLM@d4b1287 was read; its draws cannot be repeated).

Deviations: the authors draw from one generator in the order of their documents. Here a row's labels depend on the seed
and on its role and id, so that other rows coming or going change nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from unlearnkit.batch import IGNORE, Row
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError


def random_labels(
    rows: Sequence[Row], vocabulary: int, *, seed: int = 0, draws: int = 1, special: Collection[int] = ()
) -> tuple[Row, ...]:
    """The same rows with random labels wherever they are supervised.

    Args:
        rows: of any roles.
        vocabulary: V, how many tokens there are to draw from; the model's, or the tokenizer's if the model has spare
            rows.
        seed: of the draws.
        draws: labellings of each row, with ids "id/0", "id/1" … and the row's group. With as many of them as there are
            epochs, in one epoch over all, labels are new at every visit.
        special: tokens that keep their label: begin and end of a text.

    Raises:
        DataError: a vocabulary or a number of draws below 1.
    """
    if vocabulary < 1 or draws < 1:
        raise DataError(f"vocabulary is {vocabulary} and draws is {draws}; both have to be at least 1.")
    kept = torch.tensor(sorted(special), dtype=torch.int64)
    return tuple(
        Row(
            f"{row.id}/{draw}" if draws > 1 else row.id,
            row.role,
            row.inputs,
            _drawn(row, vocabulary, kept, (seed, "random label", row.role, row.id, draw)),
            group=row.group,
        )
        for row in rows
        for draw in range(draws)
    )


def _drawn(row: Row, vocabulary: int, kept: Tensor, key: tuple[object, ...]) -> Tensor:
    """[T] labels."""
    generator = torch.Generator().manual_seed(keyed_draw(2**63, *key))
    drawn = torch.randint(vocabulary, (len(row),), generator=generator)
    replaced = (row.labels != IGNORE) & ~torch.isin(row.labels, kept)
    return torch.where(replaced, drawn, row.labels)
