r"""Model Utility: what is left of a model, as the harmonic mean of nine numbers.

    MU = 9 / sum_i (1/m_i),    m: {probability, ROUGE-L recall, truth ratio} x {retain, real authors, world facts}

Probability is normalised over the options on real authors and world facts; the truth ratio is the "true_better" one,
against the paraphrase on the retain set and against the plain answer on the other two. The forget set does not enter.
It is in [0, 1], higher is more useful; an undamaged Llama-2-7b has 0.62. Needs one pass over seven roles and text for
three.

Where it misleads: one term near 0 hides the other eight, and none of them reads what the model says beyond its overlap
with the answer: a model that repeats itself is not noticed.

Paper: Maini, Feng, Schwarzschild, Lipton, Kolter. TOFU: A Task of Fictitious Unlearning for LLMs.
COLM 2024, arXiv:2401.06121.

Checked: locuslab/tofu@bdc209e on recorded evaluation logs of four Llama-2-7b models, from their texts and losses, to
all published digits (0.6226773637 before unlearning, 0.6137449952 retrained on 90 %).

Deviations: as in `probability_mc`, `TruthRatio` and `Rouge`. The authors run the answers of real authors and world
facts twice, for probability and for the truth ratio, in batches whose losses differ by up to 0.12 nats per token in the
logs; here one run serves both, which moves those four numbers by less than 1.5e-4. The older code evaluates the first
300 retain questions, OpenUnlearning 400: the rows that are passed decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from attrs import field, frozen

from unlearnkit.errors import DataError
from unlearnkit.metrics.probability import Probability, ProbabilityMC
from unlearnkit.metrics.rouge import Rouge
from unlearnkit.metrics.truth_ratio import TruthRatio
from unlearnkit.protocols import Greedy, Metric, Needs, Score, Seen, all_needs


def harmonic_mean(values: Iterable[float]) -> float:
    """Harmonic mean of numbers >= 0; 0 as soon as one of them is 0.

    Raises:
        DataError: no numbers, a negative one, or nan.
    """
    numbers = tuple(values)
    if not numbers or not all(number >= 0 for number in numbers):
        raise DataError(f"a harmonic mean needs at least one number, none of them negative or nan; got {numbers}.")
    least = min(numbers)  # 1 / least may be too large for a float
    if least in (0, math.inf):
        return float(least)
    return len(numbers) * least / math.fsum(least / number for number in numbers)


@frozen
class ModelUtility:
    """Harmonic mean of nine metrics, which are its `parts`. Higher: more useful.

    Not measured as soon as one of the nine is not: the reason names it.

    Attributes:
        retain: role of the retain questions; with "_paraphrased" and "_perturbed", of their other answers.
        real_authors, world_facts: roles of the other two sets; with "_perturbed", of their wrong answers.
        decoding: how the model writes the answers that ROUGE reads.
        of: the model that is measured.
    """

    retain: str = "retain"
    real_authors: str = "real_authors"
    world_facts: str = "world_facts"
    decoding: Greedy = field(default=Greedy(max_new_tokens=200), kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def terms(self) -> Mapping[str, Metric]:
        """The nine metrics by name."""
        terms: dict[str, Metric] = {
            "retain_probability": Probability(self.retain, of=self.of),
            "retain_rouge": Rouge(self.retain, self.decoding, of=self.of),
            "retain_truth_ratio": TruthRatio(self.retain, aggregator="true_better", of=self.of),
        }
        for name, role in (("real_authors", self.real_authors), ("world_facts", self.world_facts)):
            terms[f"{name}_probability"] = ProbabilityMC(role, of=self.of)
            terms[f"{name}_rouge"] = Rouge(role, self.decoding, of=self.of)
            terms[f"{name}_truth_ratio"] = TruthRatio(role, correct=role, aggregator="true_better", of=self.of)
        return terms

    @property
    def needs(self) -> Needs:
        return all_needs(self.terms.values())

    def __call__(self, seen: Seen) -> Score:
        parts: dict[str, float] = {}
        questions = 0
        for name, term in self.terms.items():
            score = term(seen)
            if score.value is None:
                return Score.not_measured(f"{name} was not measured: {score.reason}", "utility")
            parts[name] = score.value
            questions += score.n if name.endswith("_probability") else 0  # three terms share a set: count it once
        return Score(harmonic_mean(parts.values()), "utility", n=questions, parts=parts)
