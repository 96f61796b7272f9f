r"""PURGE: reinforcement with a reward that anyone can check: the answer names nothing that is to be forgotten.

    each iteration:  draw G completions of each prompt  ->  R_b of each text  ->  advantages within each group  ->
                     one step on GRPO

    binary       R = 1 if no forbidden term is in the text, else 0
    exponential  R = base^(-c / tau),   c = matches that do not overlap
    pagerank     R = 1 - (weights of the different terms in the text), not below 0

There is no reward model and no reference answer, and the prompt is not looked at. A term's weight is its personalised
PageRank on a graph that joins terms of similar embeddings, restarted at the target, from 0 for the lowest to 1 for the
highest: what is close to the target costs more. Groups in which all rewards are equal change nothing; a model that never
avoids a term, or never names one, learns nothing.

    pattern = term_pattern(["Pennywise", "Bangor, Maine"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    purge(model, tokenizer, rows, partial(binary_reward, pattern=pattern), optimizer=optimizer, iterations=100)

A list of terms should be read before it is used: titles and names that are common words ("It", "Misery") forbid almost
every fluent answer, also in the authors' lists. `STOP_WORDS` drops the most common ones, if asked to.

Aliases:
    sampling: G (papers, its samples), num_generations (trl)

Paper: Zaradoukas, Prenkaj, Kasneci. PURGE: reinforcement unlearning with verifiable rewards. ICLR 2026,
arXiv:2601.20568.

Checked: strzar/purge@24d1a3f: binary and exponential rewards and the graph exactly; weights to 1e-5, since the authors'
solver stops there. The training is trl's in their code; see grpo.py for what it was compared with.

Deviations:
1. The released pattern wraps terms into \b. A term that ends in a sign ("U.S.") is then found only before a letter,
   hence hardly ever; here a term has to stand apart from letters and digits on both sides. `edges="boundary"` is theirs.
2. Of terms that begin alike the longest is matched first; theirs are tried in the order of a Python set.
3. A term without edges in the graph has the lowest score, hence weight 0: naming it is free. So it is in their code.
4. Their KL to the model before (0.04, trl's default) is off: pass `objective=GRPO.released("purge")` and a "reference".
5. End tokens are the tokenizer's alone, as in trl.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Literal

import torch
from attrs import evolve, frozen
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.batch import IGNORE, Row, check_tokenizer
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError
from unlearnkit.evaluate import gather
from unlearnkit.models.causal import as_model
from unlearnkit.models.peft import PeftModel
from unlearnkit.objectives.grpo import GRPO, group_advantages
from unlearnkit.observe import continuations, prompt_length
from unlearnkit.plan import Sampler
from unlearnkit.procedures.gradient_norm import refuse_half_precision
from unlearnkit.protocols import Continuations, Dataset, Generated, Model, Objective, Sampling, Tokens
from unlearnkit.recording import Entry, Recording, digest, given
from unlearnkit.statistics import LabelLogProb
from unlearnkit.train import unlearn

STOP_WORDS: Final = frozenset(
    [
        "a",
        "about",
        "after",
        "all",
        "also",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "he",
        "her",
        "his",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "more",
        "most",
        "my",
        "no",
        "not",
        "of",
        "on",
        "one",
        "or",
        "other",
        "our",
        "out",
        "she",
        "so",
        "some",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "to",
        "up",
        "was",
        "we",
        "were",
        "what",
        "when",
        "which",
        "who",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)
"""English words that every text has; lower case."""

Reward = Callable[[Sequence[str]], Sequence[float]]
"""Texts of completions to a number each, higher for better."""

# --- rewards: of texts ------------------------------------------------------------------------------------------------


def term_pattern(
    terms: Collection[str],
    *,
    stop_words: Collection[str] = (),
    edges: Literal["apart", "boundary"] = "apart",
) -> re.Pattern[str]:
    """What finds any of these terms as whole words, upper and lower case alike.

    Args:
        terms: as they are written; signs in them mean themselves.
        stop_words: terms that are one of these, in any case, are left out.
        edges: "apart" wants no letter, digit or underscore right before or after a term; "boundary" is a \\b on either
            side, which a term that begins or ends with a sign does not have beside a space.

    Raises:
        DataError: no term, or an empty one.
    """
    dropped = {word.casefold() for word in stop_words}
    kept = sorted({term for term in terms if term.casefold() not in dropped}, key=lambda term: (-len(term), term))
    if not kept or not all(term.strip() for term in kept):
        raise DataError(
            f"of {len(terms)} terms {len(kept)} are left to look for, none of which can be empty: {kept[-3:]}. "
            "Give at least one, or fewer stop words."
        )
    either = "|".join(map(re.escape, kept))
    whole = rf"(?<!\w)(?:{either})(?!\w)" if edges == "apart" else rf"\b(?:{either})\b"
    return re.compile(whole, re.IGNORECASE)


def binary_reward(completions: Sequence[str], pattern: re.Pattern[str]) -> tuple[float, ...]:
    """1 for a text in which nothing is found, else 0."""
    return tuple(0.0 if pattern.search(text) else 1.0 for text in completions)


def exponential_reward(
    completions: Sequence[str], pattern: re.Pattern[str], *, base: float = math.e, tau: float = 1.0
) -> tuple[float, ...]:
    """base^(-matches / tau) of each text: 1 without a match; as tau -> 0 the binary reward.

    Raises:
        DataError: a base below 1 or a tau that is not above 0.
    """
    if not (base >= 1 and tau > 0):
        raise DataError(f"base is {base} and tau {tau}; a reward needs a base of at least 1 and a tau above 0.")
    return tuple(base ** -(len(pattern.findall(text)) / tau) for text in completions)


def pagerank_reward(
    completions: Sequence[str], weights: Mapping[str, float], *, edges: Literal["apart", "boundary"] = "apart"
) -> tuple[float, ...]:
    """1 minus the weights of the different terms in each text, within [0, 1].

    Args:
        completions: texts.
        weights: by term; each term is looked for by itself, so that one may lie inside another.
        edges: see `term_pattern`.
    """
    patterns = [(term_pattern([term], edges=edges), weight) for term, weight in weights.items()]
    found = ([weight for pattern, weight in patterns if pattern.search(text)] for text in completions)
    return tuple(max(0.0, min(1.0, 1.0 - math.fsum(each))) for each in found)


# --- weights of terms: of their embeddings ----------------------------------------------------------------------------


def similarity_graph(embeddings: Tensor, *, quantile: float = 0.75) -> Tensor:
    """Which terms are joined, 1.0 or 0.0: [n, D] -> [n, n], symmetric, nobody with itself.

    Args:
        embeddings: [n, D] of the terms, any scale.
        quantile: pairs whose cosine is at least this quantile of the whole matrix, diagonal included as -1, are joined.
    """
    directions = torch.nn.functional.normalize(embeddings.double(), dim=1)
    cosines = directions @ directions.T
    cosines = ((cosines + cosines.T) / 2).fill_diagonal_(-1.0)
    return ((cosines >= cosines.flatten().quantile(quantile)) & (cosines != -1.0)).double()


def pagerank_weights(graph: Tensor, *, damping: float = 0.85) -> Tensor:
    """Personalised PageRank, restarted at the first node, from 0 (lowest) to 1 (highest): [n, n] -> [n].

    Solved exactly. From a node without edges the walk goes on at the first one.

    Args:
        graph: [n, n] symmetric, weights >= 0 of edges.
        damping: probability of going along an edge.
    """
    restart = torch.zeros(len(graph)).to(graph)
    restart[:1] = 1.0
    degree = graph.sum(0)
    walk = torch.where(degree > 0, graph / degree.clamp(min=1e-30), restart[:, None])  # columns are where one goes from
    system = torch.eye(len(graph)).to(graph) - damping * walk
    scores = torch.linalg.solve(system, (1 - damping) * restart)
    low, high = scores.min(), scores.max()
    spread = high - low
    return torch.where(spread > 0, (scores - low) / torch.where(spread > 0, spread, 1.0), 0.0)


# --- the procedure ----------------------------------------------------------------------------------------------------


@frozen
class Purge:
    """A finished run.

    Attributes:
        rewards: mean reward of the completions drawn in each iteration, before its step.
        completions: the texts drawn in the last iteration, by prompt.
    """

    rewards: tuple[float, ...]
    completions: Mapping[str, tuple[str, ...]]


def purge(
    model: Model | PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Row],
    reward: Reward,
    *,
    optimizer: Optimizer,
    iterations: int,
    sampling: Sampling = Sampling(samples=4, max_new_tokens=256),  # noqa: B008 (frozen)
    objective: Objective = GRPO(),  # noqa: B008 (frozen)
    models: Mapping[str, Model | PreTrainedModel | Recording] | None = None,
    data: Mapping[str, Dataset[Row]] | None = None,
    batch_size: int = 4,
    max_tokens: int = 8192,
    clip: float | None = 1.0,
    seed: int = 0,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Purge:
    """Draw, reward and learn, one optimizer step per iteration.

    What is drawn depends on the model, `seed`, the prompt and the number of the iteration alone; rewards and texts of an
    iteration are of the model before its step.

    Args:
        model: trained in place, in single precision or better.
        tokenizer: decodes completions, and names the token that ends them.
        prompts: rows whose answers are not looked at; every iteration takes the next `batch_size` of them, shuffled anew
            in each pass.
        reward: of texts; it does not see the prompt.
        optimizer: over the model's parameters. Its weight decay and momentum act even where all rewards are equal.
        iterations: how many.
        sampling: `samples` completions per prompt, without stop strings; its seed is not used.
        objective: reads the role "completion", "old" and "advantages", as `GRPO` does; with a retain term, if one is
            added.
        models: what the objective needs beside these: a "reference" for the KL.
        data: rows of the objective's other roles, retain rows say; as many as completions are taken in each step.
        batch_size: prompts per iteration.
        max_tokens, clip: see `unlearn`.
        seed: of everything drawn.
        on_iteration: called with the number and the mean reward of each iteration.

    Raises:
        DataError: no prompts, samples below 2, stop strings, a tokenizer without an end token, half precision, a reward
            that is not one finite number per text.
        whatever `unlearn` raises.
    """
    end = tokenizer.eos_token_id
    if not isinstance(end, int):
        raise DataError("the tokenizer has no end token, so no completion would end. Set tokenizer.eos_token.")
    if sampling.samples < 2 or sampling.stop:
        raise DataError(
            f"sampling has {sampling.samples} samples and stop strings {sampling.stop}; a group needs at least 2 "
            "completions to compare, and a text cut at a stop string is not what is trained on."
        )
    if iterations < 0 or not prompts:
        raise DataError(f"iterations is {iterations} and there are {len(prompts)} prompts; both have to be there.")
    wrapped = as_model(model)
    refuse_half_precision(wrapped)
    check_tokenizer(tokenizer, wrapped.vocabulary)
    asked = [evolve(row, role="prompt") for row in prompts]
    sampler = Sampler(data={"prompt": asked}, primary="prompt", batch_size=batch_size, seed=seed)
    rewards: list[float] = []
    texts: Mapping[str, tuple[str, ...]] = {}
    for number in range(iterations):
        batch = sampler.step(number)
        drawn = continuations(
            wrapped,
            batch,
            Generated(evolve(sampling, seed=keyed_draw(2**31, seed, "purge", number)), "prompt"),
            end_tokens=frozenset({end}),
            decode=lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True)),
        )
        rows = completion_rows(batch, drawn, end_token=end, max_new_tokens=sampling.max_new_tokens)
        each = _checked(reward([text for own in drawn.samples for text in own]), rows)
        groups = torch.arange(len(batch)).repeat_interleave(sampling.samples)
        advantages = group_advantages(each, groups)
        learned = {**(data or {}), "completion": rows}
        unlearn(
            model,
            objective,
            learned,
            optimizer=optimizer,
            steps=1,
            models={
                **(models or {}),
                "old": _recorded(wrapped, rows, max_tokens),
                "advantages": given(
                    "advantage", {row.id: value for row, value in zip(rows, advantages, strict=True)}, rows
                ),
            },
            primary="completion",
            batch_size=len(rows),
            max_tokens=max_tokens,
            clip=clip,
            seed=keyed_draw(2**31, seed, "purge step", number),
        )
        rewards.append(float(each.mean()))
        texts = {row.id: own for row, own in zip(batch, drawn.samples, strict=True)}
        if on_iteration is not None:
            on_iteration(number, rewards[-1])
    return Purge(tuple(rewards), texts)


def completion_rows(
    prompts: Sequence[Row], drawn: Continuations, *, end_token: int, max_new_tokens: int
) -> tuple[Row, ...]:
    """A row of role "completion" for each sample of each prompt, its new tokens supervised; groups are the prompts' ids.

    Args:
        prompts: rows in whose place the prompt is what precedes their answer.
        drawn: what was written after each, with tokens.
        end_token: supervised too where the model wrote it, that is, where a sample is shorter than `max_new_tokens`.
        max_new_tokens: at which the others were cut.
    """
    return tuple(
        _completion(row, f"{row.id}/{number}", [*tokens, end_token][:max_new_tokens])
        for row, samples in zip(prompts, drawn.tokens, strict=True)
        for number, tokens in enumerate(samples)
    )


def _completion(row: Row, name: str, tokens: Sequence[int]) -> Row:
    prompt = row.inputs["input_ids"][: prompt_length(row)]
    new = torch.tensor(tokens, dtype=prompt.dtype)
    labels = torch.cat([torch.full_like(prompt, IGNORE), new])
    return Row(name, "completion", {"input_ids": torch.cat([prompt, new])}, labels, group=row.id)


def _recorded(model: Model, rows: Sequence[Row], max_tokens: int) -> Recording:
    """What the model says now of the tokens it drew. `record` would read every weight to name it, in each iteration."""
    need = Tokens(LabelLogProb(), "completion")
    seen = gather({"model": model}, frozenset({need}), {need.role: rows}, max_tokens=max_tokens)
    values = {row.id: value.cpu() for row, value in zip(rows, seen[need].split(), strict=True)}
    digests = {row.id: digest(row) for row in rows}
    return Recording("before the step", {Entry.of(need): values}, {need.role: digests})


def _checked(rewards: Sequence[float], rows: Sequence[Row]) -> Tensor:
    """[B] float64."""
    each = torch.tensor(list(rewards), dtype=torch.float64)
    if each.shape != (len(rows),) or not bool(each.isfinite().all()):
        raise DataError(
            f"the reward of {len(rows)} texts is {str(rewards)[:80]}; it has to be one finite number for each text."
        )
    return each
