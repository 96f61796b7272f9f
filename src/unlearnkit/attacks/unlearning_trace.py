r"""Unlearning traces: can one tell from what a model says, or from what it computes, that it was unlearned?

    label = which of N models;  classifier fitted on the replies to some prompts, tried on those to the others
    accuracy, chance 1 / N;  prompts are split, never replies, so that all models answer the same ones on either side

Two ways to look: at replies (`TextTrace`), and at activations of the last token of the prompt (`ActivationTrace`), there
also after projection on the k leading right singular vectors of the models' difference, or of all activations.

The attacker holds the model before unlearning, or its replies. What is found is no secret but that there was one: an
accuracy of 1 says that the model behaves unlike the original, and so does an honestly retrained one on what it does not
know. So the oracle is a comparison and not a floor, and an audit does not put this on its scale from oracle to original.
More telling are prompts that have nothing to do with what was forgotten (`prompts`): there an oracle leaves few traces.

The default classifier of text is a logistic regression on n-grams of characters and words. It sees a refusal or a broken
sentence and no finer style; with a few dozen prompts an accuracy has an interval of ± 0.1 and more (`Trace.interval`).

Paper: Chen et al. Unlearning Isn't Invisible: Detecting Unlearning Traces in LLMs from Model Outputs. 2025,
arXiv:2506.14003.

Checked: OPTML-Group/Unlearn-Trace@26edbf8, read: how prompts are normalised, merged and split, and what is classified.

Reconstructed: classifiers of activations and the spectral view, of which the released code has nothing.

Deviations:
1. The released classifier is a language model with a head; here any classifier of text is taken, and the default is none.
2. Cross-validation in place of one split, so that each prompt is held out once.
3. A prompt is normalised whole; the released code takes what lies between "Question:" and the first question mark, or the
   first 100 characters.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Literal, Protocol

import numpy as np
import torch
from attrs import field, frozen
from attrs.validators import ge, gt, in_
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array
from torch import Tensor

from unlearnkit.attacks.attack import Budget, Outcome, Secret, Target, ThreatModel, check_secrets, words_of
from unlearnkit.errors import DataError, NeedError
from unlearnkit.models.causal import device_of, evaluation_mode
from unlearnkit.protocols import Model, Site

# --- prompts ----------------------------------------------------------------------------------------------------------


def normalised(prompt: str) -> str:
    """A prompt in lower case, letters and digits alone."""
    return re.sub(r"[\W_]+", "", prompt).lower()


def merged(prompts: Sequence[str], *, tolerance: int = 3) -> tuple[int, ...]:
    """Which prompts are one: the number of its cluster for each, counted in order of appearance.

    In alphabetical order each normalised prompt joins the first cluster whose first member holds it or is held by it and
    differs in at most `tolerance` characters of length.
    """
    first: list[str] = []
    cluster: dict[str, str] = {}
    for key in sorted(set(map(normalised, prompts))):
        near = (one for one in first if abs(len(one) - len(key)) <= tolerance and (key in one or one in key))
        cluster[key] = next(near, key)
        if cluster[key] == key:
            first.append(key)
    numbers: dict[str, int] = {}
    return tuple(numbers.setdefault(cluster[normalised(prompt)], len(numbers)) for prompt in prompts)


def folds_of(prompts: Sequence[str], folds: int, *, seed: int = 0) -> tuple[int, ...]:
    """The fold in which each prompt is held out; prompts that are one are in one fold, folds are of nearly one size.

    Raises:
        DataError: fewer different prompts than folds, or fewer than two folds.
    """
    clusters = merged(prompts)
    different = max(clusters, default=-1) + 1
    if not 2 <= folds <= different:
        raise DataError(
            f"{folds} folds of {different} different prompts: there have to be at least 2 folds and a prompt for each."
        )
    order = list(range(different))
    Random(seed).shuffle(order)
    place = {cluster: number % folds for number, cluster in enumerate(order)}
    return tuple(place[cluster] for cluster in clusters)


# --- classifiers ------------------------------------------------------------------------------------------------------


class Classifier(Protocol):
    """Fits on texts and says of others which class they are of.

    Args:
        texts, labels: to fit on, each label in 0 … classes - 1.
        unseen: to classify.
        classes: how many there are.

    Returns:
        A label for each unseen text.
    """

    def __call__(
        self, texts: Sequence[str], labels: Sequence[int], unseen: Sequence[str], /, *, classes: int
    ) -> Sequence[int]: ...


Matrix = NDArray[np.float64] | csr_array


def logistic(features: Matrix, labels: NDArray[np.int64], unseen: Matrix, *, classes: int, penalty: float) -> list[int]:
    """Multinomial logistic regression: [n, d], [n], [m, d] -> m labels.

    Minimises the mean cross-entropy plus penalty / (2 n) times the squared weights, intercepts free. Of equally likely
    classes the first is taken.
    """
    n, d = features.shape
    wanted = np.eye(classes)[labels]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(d + 1, classes)
        scores = features @ weights[:-1] + weights[-1]
        scores = scores - scores.max(1, keepdims=True)
        log_norm = np.log(np.exp(scores).sum(1, keepdims=True))
        wrong = (np.exp(scores - log_norm) - wanted) / n
        gradient = np.vstack([features.T @ wrong + penalty / n * weights[:-1], wrong.sum(0)])
        value = -(wanted * (scores - log_norm)).sum() / n + penalty / (2 * n) * (weights[:-1] ** 2).sum()
        return float(value), gradient.ravel()

    found = minimize(loss, np.zeros((d + 1) * classes), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    weights = np.asarray(found.x).reshape(d + 1, classes)
    scores = np.asarray(unseen @ weights[:-1] + weights[-1])
    return [int(label) for label in np.round(scores, 9).argmax(1)]


def n_grams(text: str, *, characters: int, words: int) -> Iterator[str]:
    """Runs of up to `characters` characters and of up to `words` words, in lower case."""
    plain = f" {text.lower()} "
    for length in range(1, characters + 1):
        yield from (f"c{plain[start : start + length]}" for start in range(len(plain) - length + 1))
    spoken = words_of(text)
    for length in range(1, words + 1):
        yield from (f"w{' '.join(spoken[start : start + length])}" for start in range(len(spoken) - length + 1))


@frozen(kw_only=True)
class NGramLogistic:
    """`logistic` on counts of n-grams, log(1 + count), each text of length 1.

    Attributes:
        characters, words: the longest n-grams of either.
        penalty: on squared weights, against the sum of cross-entropies.
    """

    characters: int = field(default=3, validator=ge(0))
    words: int = field(default=2, validator=ge(1))
    penalty: float = field(default=0.1, validator=gt(0))

    def __call__(
        self, texts: Sequence[str], labels: Sequence[int], unseen: Sequence[str], /, *, classes: int
    ) -> list[int]:
        counted = [Counter(n_grams(text, characters=self.characters, words=self.words)) for text in texts]
        columns = {gram: number for number, gram in enumerate(sorted(set().union(*counted)))}
        others = [Counter(n_grams(text, characters=self.characters, words=self.words)) for text in unseen]
        return logistic(
            _unit_rows(counted, columns),
            np.array(labels, dtype=np.int64),
            _unit_rows(others, columns),
            classes=classes,
            penalty=self.penalty,
        )


def _unit_rows(counted: Sequence[Mapping[str, int]], columns: Mapping[str, int]) -> csr_array:
    values: list[float] = []
    places: list[int] = []
    ends = [0]
    for counts in counted:
        row = {columns[gram]: math.log1p(count) for gram, count in counts.items() if gram in columns}
        norm = math.sqrt(math.fsum(value * value for value in row.values())) or 1.0
        places += row.keys()
        values += (value / norm for value in row.values())
        ends.append(len(places))
    return csr_array((np.array(values), np.array(places, dtype=np.int64), np.array(ends)), (len(counted), len(columns)))


# --- telling models apart ---------------------------------------------------------------------------------------------


@frozen
class Trace:
    """How well models are told apart.

    Attributes:
        right: share of models whose reply was recognised, by prompt.
        models: how many there are.
    """

    right: tuple[float, ...]
    models: int

    @property
    def accuracy(self) -> float:
        """Share of recognised replies."""
        return math.fsum(self.right) / len(self.right)

    @property
    def chance(self) -> float:
        """What guessing gives."""
        return 1 / self.models

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval at 95 %, prompts taken as the independent trials; replies to one prompt are not."""
        n, z = len(self.right), 1.959964
        centre = (self.accuracy + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(self.accuracy * (1 - self.accuracy) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)


def text_trace(
    replies: Sequence[Sequence[str]],
    prompts: Sequence[str],
    *,
    classifier: Classifier | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Trace:
    """Cross-validated accuracy of a classifier that is to tell models by their replies.

    Args:
        replies: of each model, to the same prompts.
        prompts: what was asked.
        classifier: default `NGramLogistic()`.
        folds: how many, see `folds_of`.
        seed: of the split.

    Raises:
        DataError: fewer than two models, a model with another number of replies, too few prompts.
    """
    _same_prompts(len(prompts), [len(one) for one in replies])
    classify = NGramLogistic() if classifier is None else classifier
    held_out = folds_of(prompts, folds, seed=seed)
    right = [0.0] * len(prompts)
    for fold in range(folds):
        seen = [number for number, of in enumerate(held_out) if of != fold]
        unseen = [number for number, of in enumerate(held_out) if of == fold]
        guessed = classify(
            [one[number] for one in replies for number in seen],
            [label for label in range(len(replies)) for _ in seen],
            [one[number] for one in replies for number in unseen],
            classes=len(replies),
        )
        told = np.array(guessed).reshape(len(replies), len(unseen)) == np.arange(len(replies))[:, None]
        for number, share in zip(unseen, told.mean(0), strict=True):
            right[number] = float(share)
    return Trace(tuple(right), len(replies))


Spectrum = Literal["difference", "pool"]
"""What the singular vectors are of: the difference between the first model's activations and the others', or all, centred."""


def spectral_directions(features: Sequence[Tensor], k: int, *, of: Spectrum = "difference") -> Tensor:
    """The k leading right singular vectors: N times [P, d] -> [d, k] float64, orthonormal columns.

    Fewer columns where there are fewer dimensions or rows. Signs are arbitrary.
    """
    first, *others = (one.double() for one in features)
    if of == "difference":
        stacked = torch.cat([other - first for other in others])
    else:
        stacked = torch.cat([first, *others])
        stacked = stacked - stacked.mean(0)
    _, _, right = torch.linalg.svd(stacked, full_matrices=False)
    directions: Tensor = right[:k].T
    return directions


def activation_trace(
    features: Sequence[Tensor],
    prompts: Sequence[str],
    *,
    k: int | None = None,
    of: Spectrum = "difference",
    penalty: float = 1.0,
    folds: int = 5,
    seed: int = 0,
) -> Trace:
    """Cross-validated accuracy of a logistic regression that is to tell models by their activations.

    Args:
        features: of each model, [P, d], to the same prompts.
        prompts: P of them.
        k: project on so many directions (`spectral_directions` of the prompts that are fitted on). None: all dimensions.
        of: what the directions are of.
        penalty: on squared weights of the standardised features, against the sum of cross-entropies.
        folds, seed: see `folds_of`.

    Raises:
        DataError: as for `text_trace`.
    """
    _same_prompts(len(prompts), [len(one) for one in features])
    held_out = torch.tensor(folds_of(prompts, folds, seed=seed))
    values = torch.stack([one.detach().double().cpu() for one in features])  # [N, P, d]
    right = torch.zeros(len(prompts), dtype=torch.float64)
    for fold in range(folds):
        seen, unseen = values[:, held_out != fold], values[:, held_out == fold]
        if k is not None:
            directions = spectral_directions([*seen], k, of=of)
            seen, unseen = seen @ directions, unseen @ directions
        centre = seen.mean((0, 1))
        scale = (seen - centre).square().mean((0, 1)).sqrt()
        scale = torch.where(scale > 1e-9 * scale.max(), scale, torch.inf)
        labels = torch.arange(len(features)).repeat_interleave(seen.shape[1])
        guessed = logistic(
            ((seen - centre) / scale).flatten(0, 1).numpy(),
            labels.numpy(),
            ((unseen - centre) / scale).flatten(0, 1).numpy(),
            classes=len(features),
            penalty=penalty,
        )
        told = torch.tensor(guessed).reshape(unseen.shape[:2]) == torch.arange(len(features))[:, None]
        right[held_out == fold] = told.double().mean(0)
    return Trace(tuple(right.tolist()), len(features))


def _same_prompts(prompts: int, replies: Sequence[int]) -> None:
    if len(replies) < 2 or any(number != prompts for number in replies):
        raise DataError(
            f"{len(replies)} models with {list(replies)} replies to {prompts} prompts: at least two models have to answer "
            "the same prompts."
        )


def last_token_features(target: Target, prompts: Sequence[str], site: Site, *, model: Model | None = None) -> Tensor:
    """Activations of the last token of each prompt at a site: [P, d] float32 on the CPU.

    Args:
        target: gives template and tokenizer, and the model unless another is given.
        prompts: questions.
        site: where.
        model: another model of the same tokenizer.
    """
    read = target.model if model is None else model
    place, rows = device_of(read), []
    with torch.no_grad(), evaluation_mode(read):
        for prompt in prompts:
            tokens = target.prompt(prompt)[None].to(place)
            positions = torch.arange(tokens.shape[1], device=place)[None]
            found = read.hidden({"input_ids": tokens, "position_ids": positions}, capture=frozenset({site}))
            rows.append(found.sites[site][0, -1].float().cpu())
    return torch.stack(rows)


# --- attacks ----------------------------------------------------------------------------------------------------------


@frozen(kw_only=True, eq=False)
class TextTrace:
    """Tell target and original by their replies to the questions. Chance is 0.5, and so is `before`.

    What comes out of a secret is the share of the two replies to its question that a classifier recognises which was
    fitted on replies to other questions.

    Attributes:
        classifier: default `NGramLogistic()`.
        prompts: asked and learned from as well, but not counted in `after`; their accuracy is in `curve`, as
            "other prompts". Default: the questions of the target's `retained`.
        folds, seed: see `text_trace`.
    """

    classifier: Classifier | None = None
    prompts: tuple[str, ...] | None = None
    folds: int = field(default=5, validator=ge(2))
    seed: int = 0
    threat: ThreatModel = field(default="text", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        original = target.with_model(_original(target))
        asked, others = _questions(target, secrets, self.prompts)
        prompts = (*asked, *others)
        replies = [original.answers(prompts), target.answers(prompts)]
        trace = text_trace(replies, prompts, classifier=self.classifier, folds=self.folds, seed=self.seed)
        return _outcome(
            "trace in replies", self.threat, trace, secrets, others=len(others), seed=self.seed, found=replies[1]
        )


@frozen(kw_only=True, eq=False)
class ActivationTrace:
    """Tell target and original by what they compute at the end of the question; otherwise as `TextTrace`.

    Attributes:
        site: where activations are read; the default is what the head reads.
        k, of, penalty, folds, seed: see `activation_trace`.
        prompts: as for `TextTrace`.
    """

    site: Site = field(default=Site("final_hidden"))
    k: int | None = None
    of: Spectrum = field(default="difference", validator=in_(("difference", "pool")))
    penalty: float = field(default=1.0, validator=gt(0))
    prompts: tuple[str, ...] | None = None
    folds: int = field(default=5, validator=ge(2))
    seed: int = 0
    threat: ThreatModel = field(default="weights+reference", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        original = _original(target)
        asked, others = _questions(target, secrets, self.prompts)
        prompts = (*asked, *others)
        features = [
            last_token_features(target, prompts, self.site, model=original),
            last_token_features(target, prompts, self.site),
        ]
        trace = activation_trace(
            features, prompts, k=self.k, of=self.of, penalty=self.penalty, folds=self.folds, seed=self.seed
        )
        name = f"trace at {self.site}" + ("" if self.k is None else f", {self.k} directions of the {self.of}")
        return _outcome(name, self.threat, trace, secrets, others=len(others), seed=self.seed, found=())


def _original(target: Target) -> Model:
    if target.original is None:
        raise NeedError(
            "a trace is what tells a model from the one before unlearning. Give the target its `original`, or compare "
            "models of yours with text_trace()."
        )
    return target.original


def _questions(
    target: Target, secrets: Sequence[Secret], prompts: tuple[str, ...] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Questions of the secrets, and other prompts that are none of them."""
    asked = tuple(secret.question for secret in secrets)
    others = tuple(one.question for one in target.retained) if prompts is None else prompts
    return asked, tuple(prompt for prompt in dict.fromkeys(others) if prompt not in asked)


def _outcome(
    name: str,
    threat: ThreatModel,
    trace: Trace,
    secrets: Sequence[Secret],
    *,
    others: int,
    seed: int,
    found: Sequence[str],
) -> Outcome:
    ids = [secret.id for secret in secrets]
    curve = {"other prompts": math.fsum(trace.right[len(ids) :]) / others} if others else {}
    return Outcome(
        attack=name,
        threat=threat,
        budget=Budget(queries=2 * len(trace.right)),
        seed=seed,
        measure="share of the two models' replies that are recognised; 0.5 by guessing, 1 is a plain trace",
        before=dict.fromkeys(ids, trace.chance),
        after=dict(zip(ids, trace.right, strict=False)),
        chance=trace.chance,
        found=dict(zip(ids, found, strict=False)),
        curve=curve,
    )
