r"""Linear probe: does a hidden state hold the answer, or tell a true statement from a false one, where the model is
silent?

`LinearProbe` asks for truth:

    features x = state that leaves block l at the last token of "question + candidate answer"
    ridge      w = (X'X + lambda I)^-1 X'y, on standardised X, y = 1 for true and -1 for false, with an intercept
    logistic   min_w sum log(1 + exp(-y (w.x + b))) + lambda/2 |w|^2
    component  first principal component of the differences within pairs           no labels but one: which end is true
    ccs        p = sigmoid(w.x + b), min_w,b mean (p(x) - (1 - p(x')))^2 + min(p(x), p(x'))^2 over pairs x, x'  the same

`ClassProbe` asks for the answer: ridge regression of which word comes next on the state that predicts it.

The attacker holds the weights to read them with, and the answers to some questions: those of other subjects in the
forget set (k folds by subject: of one it trained on, a probe remembers the subject) and facts that were to be kept.
What is measured of truth is pairs: the share of wrong answers to a question that score below the right one; guessing
gives 0.5. The layer is the one that did best on subjects held out of the training part.

Controls: labels swapped at random within pairs, or answers dealt anew among the facts (`control`), and the oracle: a
value that is more often right than others, or an answer that reads better, is found in any model. `before` is the
model's own choice, by the mean log-probability of an answer's tokens: a probe that finds no more than that has found
nothing hidden. A small model may have no direction of truth at all: a probe that fails has not shown that nothing is
there.

Paper: Alain, Bengio. Understanding Intermediate Layers Using Linear Classifier Probes. 2016, arXiv:1610.01644; Burns et
al. Discovering Latent Knowledge in Language Models Without Supervision. ICLR 2023, arXiv:2212.03827; on unlearned
models Lynch et al. Eight Methods to Evaluate Robust Unlearning in LLMs. 2024, arXiv:2402.16835.

Reconstructed: the papers say which states and which classifier; folds by subject, the held-out choice of the layer and
the score by pairs are our reading.

Deviations:
    1. `ClassProbe` reads the state after the answer up to its keyword, not after the question.
    2. CCS was given a statement with "yes" and with "no"; here the two of a pair are a right and a wrong answer, in an
       order drawn at random.
    3. Neither CCS nor a principal component says which end is true: the labels of the training part do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from attrs import Attribute, evolve, field, frozen
from attrs.validators import ge, gt, in_
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from unlearnkit.attacks.attack import Budget, Outcome, Secret, Target, ThreatModel, check_secrets, mean_log_probs
from unlearnkit.attacks.logit_lens import Choice, choice_of, chosen, preferred, states_of
from unlearnkit.batch import Row
from unlearnkit.errors import DataError
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.generate import end_tokens
from unlearnkit.protocols import resid_post

ProbeKind = Literal["ridge", "logistic", "component", "ccs"]


# --- probes -----------------------------------------------------------------------------------------------------------


@frozen(eq=False)
class Probe:
    """A score of states: higher where a statement is taken to be true.

    Attributes:
        mean, scale: [D], of the states it was trained on.
        weight: [D], of standardised states.
        bias: a number.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: float = 0.0

    def __call__(self, states: Tensor) -> Tensor:
        """[..., D] -> [...]."""
        return (states.double() - self.mean) / self.scale @ self.weight + self.bias


def moments(states: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, 1 where it does not vary: [N, D] -> [D], [D] in float64."""
    scale = states.double().std(0, correction=0)
    return states.double().mean(0), torch.where(scale > 1e-12, scale, 1.0)


def ridge_probe(states: Tensor, labels: Tensor, *, penalty: float = 1.0) -> Probe:
    """Least squares on labels 1 (true) and -1, with intercept, `penalty` on the squared weights: [N, D], [N]."""
    mean, scale = moments(states)
    x = (states.double() - mean) / scale
    y = labels.double() - labels.double().mean()
    if len(x) > x.shape[1]:
        weight = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)
    else:  # the same weights, from a smaller system
        weight = x.T @ torch.linalg.solve(x @ x.T + penalty * torch.eye(len(x), dtype=x.dtype), y)
    return Probe(mean, scale, weight, float(labels.double().mean()))


def logistic_probe(states: Tensor, labels: Tensor, *, penalty: float = 1.0) -> Probe:
    """Logistic regression on labels 1 (true) and -1; half of `penalty` on squared weights, none on the intercept."""
    mean, scale = moments(states)
    x = ((states.double() - mean) / scale).numpy()
    y = labels.double().numpy()

    def loss(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins = y * (x @ point[:-1] + point[-1])
        slopes = -y / (1 + np.exp(np.clip(margins, -500, 500)))
        value = np.logaddexp(0, -margins).sum() + penalty / 2 * point[:-1] @ point[:-1]
        return float(value), np.append(x.T @ slopes + penalty * point[:-1], slopes.sum())

    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
    return Probe(mean, scale, torch.from_numpy(found[:-1].copy()), float(found[-1]))


def component_probe(first: Tensor, second: Tensor) -> Probe:
    """First principal component of the differences within pairs [N, D], [N, D]; which end is true it does not say.

    Differences point either way, as pairs are in no order: they are not centred.
    """
    mean, scale = moments(torch.cat([first, second]))
    differences = (first.double() - second.double()) / scale
    return Probe(mean, scale, torch.linalg.svd(differences, full_matrices=False).Vh[0])


def ccs_probe(first: Tensor, second: Tensor, *, starts: int = 3, seed: int = 0) -> Probe:
    """Contrast-consistent search on pairs [N, D], [N, D], best of some starts. Which end is true it does not say."""
    mean, scale = moments(torch.cat([first, second]))
    pair = [(one.double() - mean) / scale for one in (first, second)]
    draws = torch.Generator().manual_seed(seed)
    width = first.shape[1]

    def loss(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        at = torch.from_numpy(point).requires_grad_(True)
        with torch.enable_grad():
            one, other = (torch.sigmoid(x @ at[:-1] + at[-1]) for x in pair)
            value = ((one - (1 - other)).square() + torch.minimum(one, other).square()).mean()
            (slope,) = torch.autograd.grad(value, at)
        return float(value.detach()), slope.numpy()

    best = None
    for _ in range(starts):
        start = torch.nn.functional.normalize(torch.randn(width + 1, generator=draws, dtype=torch.float64), dim=0)
        found = minimize(loss, start.numpy(), jac=True, method="L-BFGS-B", options={"maxiter": 100})
        best = found if best is None or found.fun < best.fun else best
    assert best is not None
    return Probe(mean, scale, torch.from_numpy(best.x[:-1].copy()), float(best.x[-1]))


def pairs_probe(
    kind: ProbeKind, true: Tensor, false: Tensor, swapped: Sequence[bool], *, penalty: float = 1.0, seed: int = 0
) -> Probe:
    """A probe trained on pairs of statements, [N, D] each.

    Args:
        kind: see the top of the file.
        true, false: states of the two statements of each pair.
        swapped: pairs whose labels are exchanged: the control.
        penalty: of "ridge" and "logistic".
        seed: of starts, and of the order in which "ccs" sees the two of a pair.
    """
    exchange = torch.tensor(list(swapped))[:, None]
    right, wrong = torch.where(exchange, false, true), torch.where(exchange, true, false)
    if kind in ("ridge", "logistic"):
        labels = torch.cat([torch.ones(len(right)), -torch.ones(len(wrong))])
        train = ridge_probe if kind == "ridge" else logistic_probe
        return train(torch.cat([right, wrong]), labels, penalty=penalty)
    draws = random.Random(seed)
    turned = torch.tensor([draws.random() < 0.5 for _ in right])[:, None]
    first, second = torch.where(turned, wrong, right), torch.where(turned, right, wrong)
    probe = component_probe(first, second) if kind == "component" else ccs_probe(first, second, seed=seed)
    if float(below(probe(right), probe(wrong)).mean()) >= 0.5:
        return probe
    return Probe(probe.mean, probe.scale, -probe.weight, -probe.bias)


def below(right: Tensor, wrong: Tensor) -> Tensor:
    """1 where the right one scores higher, 0.5 where both score alike, else 0; whatever the shape."""
    return ((right > wrong).double() + (right >= wrong).double()) / 2


def folds(subjects: Sequence[str], number: int, seed: int = 0) -> dict[str, int]:
    """Every subject's fold, 0 … number - 1, of equal size but for one.

    Raises:
        DataError: fewer subjects than folds.
    """
    distinct = sorted(set(subjects))
    if len(distinct) < number:
        raise DataError(
            f"there are {len(distinct)} subjects for {number} folds; what is said of one subject stays in one fold. "
            "Ask for fewer folds, pass secrets of more subjects, or say by `subject` whom they are about."
        )
    random.Random(seed).shuffle(distinct)
    return {subject: place % number for place, subject in enumerate(distinct)}


# --- the attack -------------------------------------------------------------------------------------------------------


@frozen(eq=False)
class _Pairs:
    """A fact told rightly and wrongly: states by layer, [D] and [M, D]."""

    subject: str
    true: Mapping[int, Tensor]
    false: Mapping[int, Tensor]


def _folds(_: object, __: Attribute[int], number: int) -> None:
    if number == 1 or number < 0:
        raise ValueError(f"'folds' is {number}; it has to be at least 2, or 0 to train on `known` alone.")


@frozen(kw_only=True, eq=False)
class LinearProbe:
    """A probe for truth, trained on other facts than it is asked about.

    Attributes:
        kind: see the top of the file.
        known: facts with wrong answers whose truth the attacker knows, about nobody who is asked for.
        folds: parts of the secrets, by subject, each asked by a probe trained on the other parts and on `known`; 0: on
            `known` alone.
        wrong: how many wrong answers of each fact are told, drawn.
        layers: blocks whose output is looked at. Default: all.
        penalty: of "ridge" and "logistic".
        seed: of all draws.
    """

    kind: ProbeKind = field(default="ridge", validator=in_(("ridge", "logistic", "component", "ccs")))
    known: tuple[Secret, ...] = ()
    folds: int = field(default=5, validator=_folds)
    wrong: int = field(default=4, validator=ge(1))
    layers: tuple[int, ...] | None = None
    penalty: float = field(default=1.0, validator=gt(0))
    seed: int = 0
    threat: ThreatModel = field(default="activations", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        asked = [secret for secret in secrets if secret.wrong]
        if not asked:
            raise DataError(
                "no secret has wrong answers, beside which the right one could be told. Pass some as `wrong`."
            )
        known = [secret for secret in self.known if secret.wrong]
        _check_others(known, asked)
        if self.folds == 0 and len({secret.subject for secret in known}) < 2:
            raise DataError(
                "without folds a probe is trained on `known` alone: pass facts about at least two subjects."
            )
        model = CausalLM(target.weights)
        layers = tuple(range(len(model.anatomy.blocks))) if self.layers is None else self.layers
        of_fold = folds([one.subject for one in asked], self.folds, self.seed) if self.folds else {}
        told = {secret.id: self._told(target, secret) for secret in asked}
        facts = {
            secret.id: pairs for secret, pairs in zip(asked, self._read(model, target, asked, layers), strict=True)
        }
        others = self._read(model, target, known, layers)
        own = mean_log_probs(target.model, [row for rows in told.values() for row in rows], batch=target.batch)
        after: dict[str, float] = {}
        control: dict[str, float] = {}
        for fold in sorted(set(of_fold.values())) or [0]:
            inside = [one.id for one in asked if not of_fold or of_fold[one.subject] == fold]
            training = [facts[one.id] for one in asked if of_fold and of_fold[one.subject] != fold] + others
            for into, random_labels in ((after, False), (control, True)):
                layer, probe = self._trained(training, layers, fold, random_labels)
                for key in inside:
                    scores = probe(facts[key].true[layer]), probe(facts[key].false[layer])
                    into[key] = float(below(*scores).mean())
        place, before = 0, {}
        for key, rows in told.items():
            right, *wrong = own[place : place + len(rows)]
            before[key] = float(below(torch.tensor(right), torch.tensor(wrong)).mean())
            place += len(rows)
        return Outcome(
            attack=f"{self.kind} probe, " + (f"{self.folds} folds" if self.folds else "trained on facts of others"),
            threat=self.threat,
            budget=Budget(
                queries=sum(map(len, told.values())) + len(known) * (self.wrong + 1), knows_answer=self.folds > 0
            ),
            seed=self.seed,
            measure="share of wrong answers that score below the right one",
            before={secret.id: before[secret.id] for secret in asked},
            after={secret.id: after[secret.id] for secret in asked},
            chance=0.5,
            control={secret.id: control[secret.id] for secret in asked},
            left_out={secret.id: "it has no wrong answers." for secret in secrets if not secret.wrong},
        )

    def _told(self, target: Target, secret: Secret) -> list[Row]:
        """The fact told rightly, then wrongly."""
        draws = random.Random(f"{self.seed}/{secret.id}")
        wrong = draws.sample(secret.wrong, min(self.wrong, len(secret.wrong)))
        return [
            target.row(secret.question, secret.told(word), id=f"{secret.id}#{number}", role="told")
            for number, word in enumerate((secret.keyword, *wrong))
        ]

    def _read(self, model: CausalLM, target: Target, facts: Sequence[Secret], layers: Sequence[int]) -> list[_Pairs]:
        ends = end_tokens(target.tokenizer, target.model)
        told = [self._told(target, fact) for fact in facts]
        texts = [_without_end(row.inputs["input_ids"], ends) for rows in told for row in rows]
        seen = states_of(model, texts, [resid_post(layer) for layer in layers], last=True, batch=target.batch)
        states = {layer: [state[0].double().cpu() for state in seen[resid_post(layer)]] for layer in layers}
        pairs, place = [], 0
        for fact, rows in zip(facts, told, strict=True):
            until = place + len(rows)
            true = {layer: states[layer][place] for layer in layers}
            false = {layer: torch.stack(states[layer][place + 1 : until]) for layer in layers}
            pairs.append(_Pairs(fact.subject, true, false))
            place = until
        return pairs

    def _trained(
        self, training: Sequence[_Pairs], layers: Sequence[int], fold: int, random_labels: bool
    ) -> tuple[int, Probe]:
        """The layer that does best on held-out subjects of the training part, and a probe of all of it."""
        draws = random.Random(f"{self.seed}/{fold}")
        swapped = [[random_labels and draws.random() < 0.5 for _ in one.false[layers[0]]] for one in training]

        def probe(numbers: Sequence[int], layer: int) -> Probe:
            true = torch.cat([training[n].true[layer].expand_as(training[n].false[layer]) for n in numbers])
            false = torch.cat([training[n].false[layer] for n in numbers])
            flags = [flag for n in numbers for flag in swapped[n]]
            return pairs_probe(self.kind, true, false, flags, penalty=self.penalty, seed=self.seed)

        best = layers[0]
        if len(layers) > 1:
            half = folds([one.subject for one in training], 2, self.seed)
            score = dict.fromkeys(layers, 0.0)
            for layer in layers:
                for number in (0, 1):
                    chosen = probe([n for n, one in enumerate(training) if half[one.subject] != number], layer)
                    for n, one in enumerate(training):
                        if half[one.subject] == number:
                            hit = below(chosen(one.true[layer]), chosen(one.false[layer]))
                            turned = torch.tensor(swapped[n])
                            score[layer] += float(torch.where(turned, 1 - hit, hit).mean())
            best = max(layers, key=score.__getitem__)
        return best, probe(range(len(training)), best)


@frozen(kw_only=True, eq=False)
class ClassProbe:
    """A probe for the answer itself, trained on known facts of the same relations about other subjects.

    A word that no known fact has for its answer cannot be said: it is not among the candidates, and a secret whose own
    answer it is is left out.

    Attributes:
        known: facts whose answers the attacker knows, about nobody who is asked for.
        layers: blocks whose output is looked at. Default: all.
        penalty: on the squared weights.
        seed: of the halves by which the layer is chosen, and of the control.
    """

    known: tuple[Secret, ...]
    layers: tuple[int, ...] | None = None
    penalty: float = field(default=10.0, validator=gt(0))
    seed: int = 0
    threat: ThreatModel = field(default="activations", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        _check_others(self.known, secrets)
        model = CausalLM(target.weights)
        # Where a known answer's keyword begins a few wrong ones tell as well as all.
        few = [evolve(one, wrong=one.wrong[:5]) for one in self.known]
        known = {one.id: choice for one in few if (choice := choice_of(target, one)) is not None}
        words = sorted({choice.words[0] for choice in known.values()})
        asked = {
            one.id: choice
            for one in secrets
            if (choice := choice_of(target, one)) is not None and len([w for w in choice.words if w in words]) > 1
        }
        asked = {key: choice for key, choice in asked.items() if choice.words[0] in words}
        if not asked or len({one.subject for one in self.known}) < 2:
            raise DataError(
                "no secret has an answer that is also the answer of a known fact, beside a wrong one that is, or the "
                "known facts are about fewer than two subjects. Pass more facts as `known`."
            )
        layers = tuple(range(len(model.anatomy.blocks))) if self.layers is None else self.layers
        half = folds([one.subject for one in self.known], 2, self.seed)
        part = torch.tensor([half[one.subject] for one in self.known if one.id in known])
        of_known = self._states(model, known, layers, target.batch)
        of_asked = self._states(model, asked, layers, target.batch)
        labels = torch.tensor([words.index(choice.words[0]) for choice in known.values()])
        dealt = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed))]
        places = {key: [words.index(word) for word in choice.words if word in words] for key, choice in asked.items()}
        said: list[dict[str, int]] = []
        for truth in (labels, dealt):
            hits = dict.fromkeys(layers, 0)
            for layer in layers if len(layers) > 1 else ():
                for number in (0, 1):
                    scores = _class_scores(
                        of_known[layer][part != number],
                        truth[part != number],
                        of_known[layer][part == number],
                        len(words),
                        self.penalty,
                    )
                    hits[layer] += int((scores.argmax(-1) == truth[part == number]).sum())
            best = max(layers, key=hits.__getitem__)
            scores = _class_scores(of_known[best], truth, of_asked[best], len(words), self.penalty)
            said.append({key: chosen(score, places[key]) for key, score in zip(asked, scores, strict=True)})
        sayable = {}
        for key, choice in asked.items():
            among = [place for place, word in enumerate(choice.words) if word in words]
            sayable[key] = evolve(
                choice, tokens=tuple(choice.tokens[n] for n in among), words=tuple(choice.words[n] for n in among)
            )
        before = preferred(target.model, sayable)
        return Outcome(
            attack="class probe",
            threat=self.threat,
            budget=Budget(queries=len(known) + len(asked)),
            seed=self.seed,
            measure="the keyword scores highest among the candidates",
            before=before,
            after={key: float(number == 0) for key, number in said[0].items()},
            chance=math.fsum(1 / len(of) for of in places.values()) / len(places),
            found={key: words[places[key][number]] for key, number in said[0].items()},
            control={key: float(number == 0) for key, number in said[1].items()},
            left_out={
                one.id: "no known fact has its answer, or it has no wrong answer that one has."
                for one in secrets
                if one.id not in asked
            },
        )

    def _states(
        self, model: CausalLM, choices: Mapping[str, Choice], layers: Sequence[int], batch: int
    ) -> dict[int, Tensor]:
        sites = [resid_post(layer) for layer in dict.fromkeys(layers)]
        seen = states_of(model, [one.context for one in choices.values()], sites, last=True, batch=batch)
        return {layer: torch.cat(seen[resid_post(layer)]).double().cpu() for layer in layers}


def _class_scores(train: Tensor, labels: Tensor, states: Tensor, classes: int, penalty: float) -> Tensor:
    """Ridge regression of one-hot labels: [N, D], [N], [M, D] -> [M, classes]."""
    mean, scale = moments(train)
    x, of_class = (train - mean) / scale, torch.nn.functional.one_hot(labels, classes).double()
    weight = torch.linalg.solve(
        x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype), x.T @ (of_class - of_class.mean(0))
    )
    scores: Tensor = (states - mean) / scale @ weight + of_class.mean(0)
    return scores


def _check_others(known: Sequence[Secret], secrets: Sequence[Secret]) -> None:
    subjects = {secret.subject for secret in secrets}
    if shared := [secret for secret in known if secret.subject in subjects]:
        raise DataError(
            f"known fact {shared[0].id!r} is about {shared[0].subject!r}, whom a secret is about too: a probe would "
            "remember the subject. Leave it out of `known`; in folds, secrets of other subjects are used anyway."
        )


def _without_end(ids: Tensor, ends: frozenset[int]) -> Tensor:
    length = len(ids)
    while length > 1 and int(ids[length - 1]) in ends:
        length -= 1
    return ids[:length]
