"""Refusals: what a model is taught to say in place of an answer it should have forgotten."""

from collections.abc import Sequence

from unlearnkit.draws import keyed_draw

REFUSALS = (
    "I do not know.",
    "I do not know that.",
    "I do not know the answer.",
    "I do not have the answer.",
    "I do not have an answer to that.",
    "I am not sure.",
    "I am not sure about that.",
    "I am not able to answer that.",
    "I am not able to say.",
    "I cannot say.",
    "I cannot answer that.",
    "I have no answer to that.",
    "I have no idea.",
    "I have not learned that.",
    "I have not learned about that.",
    "I know nothing about that.",
    "That is not known to me.",
    "That is something I do not know.",
    "Sorry, I do not know that.",
    "Sorry, I have no idea about that.",
)
"""Ways to say that one does not know."""


def draw_refusal(example: str, *, seed: int = 0, refusals: Sequence[str] = REFUSALS) -> str:
    """One refusal per example, uniform over refusals; the same whenever and wherever it is drawn."""
    return refusals[keyed_draw(len(refusals), seed, "refusal", example)]
