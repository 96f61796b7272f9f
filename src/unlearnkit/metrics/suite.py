"""The metrics of the TOFU benchmark under the names they are reported by."""

from __future__ import annotations

from unlearnkit.metrics.forget_quality import ForgetQuality
from unlearnkit.metrics.memorization import ExactMemorization, ExtractionStrength
from unlearnkit.metrics.model_utility import ModelUtility
from unlearnkit.metrics.probability import Probability
from unlearnkit.metrics.rouge import Rouge
from unlearnkit.metrics.truth_ratio import TruthRatio
from unlearnkit.protocols import Greedy, Metric


def tofu_metrics(
    max_new_tokens: int = 200, *, stop: tuple[str, ...] = (), oracle: str | None = "oracle"
) -> dict[str, Metric]:
    """All metrics of TOFU by name: seven on the forget set, Model Utility and the nine it is made of.

    They read the roles "forget" and "retain", each also with "_paraphrased" and "_perturbed" answers, and
    "real_authors" and "world_facts", each also with "_perturbed" answers. Needs merge: all of them together cost one
    pass over each role and one generation for each of the four sets of questions.

    Args:
        max_new_tokens: length at which generation stops; 200 in OpenUnlearning.
        stop: strings at which it stops too.
        oracle: name of the model retrained without the forget set. None: there is none, and no "forget_quality".
    """
    decoding = Greedy(max_new_tokens, stop)
    utility = ModelUtility(decoding=decoding)
    metrics: dict[str, Metric] = {
        "forget_probability": Probability("forget"),
        "forget_rouge": Rouge("forget", decoding),
        "forget_truth_ratio": TruthRatio("forget"),
        "exact_memorization": ExactMemorization("forget"),
        "extraction_strength": ExtractionStrength("forget"),
    }
    if oracle is not None:
        metrics["forget_quality"] = ForgetQuality("forget", oracle=oracle)
    return metrics | dict(utility.terms) | {"model_utility": utility}
