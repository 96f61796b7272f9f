r"""Markov chains: short and long sequences of equal difficulty, the data on which SimNPO was compared with NPO.

Three chains live on three disjoint sets of states, "retain", "forget1" and "forget2". From a state of its own set a
chain stays in the set with probability 1 - leak, all of its states alike, and else goes to any state outside, all
alike; from a state outside it goes anywhere. States left over (one of ten) are reached by leaking only. What a model
learns is which states belong together; a model that never saw a forget chain finds every next state equally likely.

    P(s, s') = (1 - leak) / m  if s' is in the set,  leak / (S - m)  if not        from a state s of the set, m states
    P(s, s') = 1 / S                                                               from any other

A row is one sequence. All tokens are labels, of which the first has nothing before it and is never predicted.

Paper: Fan, Liu, Lin, Jia, Zhang, Mei, Liu. Simplicity Prevails: Rethinking Negative Preference Optimization for LLM
Unlearning. NeurIPS 2025, arXiv:2410.07163.

Checked: closed forms; transition matrices and first-state distributions were compared with OPTML-Group/Unlearn-Simple's
synthetic folder by reading.

Deviations: draws are of our own generator, so that a seed gives other sequences than the release's.
"""

from __future__ import annotations

import torch
from attrs import Attribute, field, frozen
from attrs.validators import ge, in_, instance_of, le
from torch import Tensor

from unlearnkit.batch import Row
from unlearnkit.draws import keyed_draw

ROLES = ("retain", "forget1", "forget2")
"""The three chains, in the order of their states."""


@frozen(kw_only=True)
class Chain:
    """One of the three chains.

    Attributes:
        role: which; also the role of its rows.
        states: S, of all chains together; each has a third of them, rounded down.
        leak: probability of leaving the chain's own states at each step.
    """

    role: str = field(validator=in_(ROLES))
    states: int = field(default=10, validator=[instance_of(int), ge(4)])
    leak: float = field(default=0.2, validator=[ge(0.0), le(1.0)])

    @property
    def own(self) -> range:
        """The chain's own states."""
        size = self.states // len(ROLES)
        return range(ROLES.index(self.role) * size, (ROLES.index(self.role) + 1) * size)

    def first(self) -> Tensor:
        """Probability of each first state, and of each next one from an own state: [S] float64."""
        return two_levels(self.states, self.own, self.leak)

    def transitions(self) -> Tensor:
        """[S, S] float64; row s is the distribution of the state after s."""
        matrix = torch.full((self.states, self.states), 1 / self.states, dtype=torch.float64)
        matrix[self.own.start : self.own.stop] = self.first()
        return matrix


@frozen(kw_only=True)
class Sequences:
    """How many sequences of a chain, and how long.

    Attributes:
        number: of sequences, >= 1.
        length: states in each, >= 2.
        seed: of the draws.
        split: keeps draws for training and for testing apart.
    """

    number: int = field(validator=ge(1))
    length: int = field(default=20, validator=ge(2))
    seed: int = 0
    split: str = field(default="train")

    @split.validator
    def _named(self, _: Attribute[str], split: str) -> None:
        if not split:
            raise ValueError("'split' is empty; call it 'train' or 'test', say.")


def two_levels(states: int, own: range, leak: float) -> Tensor:
    """1 - leak shared by the states of `own`, leak by all others: [states] float64."""
    levels = torch.full((states,), leak / (states - len(own)), dtype=torch.float64)
    levels[own.start : own.stop] = (1 - leak) / len(own)
    return levels


def draw_states(chain: Chain, wanted: Sequences) -> Tensor:
    """[number, length] int64: sequences of the chain, which depend on its role, on seed and split only."""
    seed = keyed_draw(2**63, wanted.seed, "markov chain", chain.role, wanted.split)
    generator = torch.Generator().manual_seed(seed)
    states = torch.empty(wanted.number, wanted.length, dtype=torch.int64)
    states[:, 0] = torch.multinomial(chain.first(), wanted.number, replacement=True, generator=generator)
    transitions = chain.transitions()
    for step in range(1, wanted.length):
        states[:, step] = torch.multinomial(transitions[states[:, step - 1]], 1, generator=generator)[:, 0]
    return states


def chain_rows(chain: Chain, wanted: Sequences, *, role: str | None = None) -> tuple[Row, ...]:
    """The sequences as rows; token ids are states, and ids begin with the chain's role.

    Args:
        chain, wanted: what is drawn.
        role: of the rows, if not the chain's; both forget chains may be unlearned as "forget".
    """
    return tuple(
        Row(f"{chain.role}/{wanted.split}/{number}", role or chain.role, {"input_ids": states}, states.clone())
        for number, states in enumerate(draw_states(chain, wanted))
    )
