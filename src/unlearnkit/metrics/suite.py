"""The metrics of the TOFU benchmark, and those that others measure on its data, under the names they are reported by."""

from __future__ import annotations

from unlearnkit.metrics.forget_quality import ForgetQuality
from unlearnkit.metrics.leaderboard import Memorization, ParaphraseProbability
from unlearnkit.metrics.membership import Attack, Loss, MembershipInference, MinK, MinKPlusPlus, Reference, Zlib
from unlearnkit.metrics.memorization import ExactMemorization, ExtractionStrength
from unlearnkit.metrics.model_utility import ModelUtility
from unlearnkit.metrics.ngram_entropy import NgramEntropy
from unlearnkit.metrics.privacy import Privacy, PrivLeak
from unlearnkit.metrics.probability import Probability
from unlearnkit.metrics.rouge import Rouge
from unlearnkit.metrics.token_confidence import TokenConfidence
from unlearnkit.metrics.truth_ratio import TruthRatio
from unlearnkit.metrics.truth_ratio_distance import TruthRatioDistance
from unlearnkit.protocols import Greedy, Metric


def tofu_metrics(
    max_new_tokens: int = 200,
    *,
    stop: tuple[str, ...] = (),
    oracle: str | None = "oracle",
    holdout: str | None = "holdout",
) -> dict[str, Metric]:
    """All metrics of TOFU by name: what is known of the forget set, membership, Model Utility and its nine terms.

    They read the roles "forget" and "retain", each also with "_paraphrased" and "_perturbed" answers, "real_authors" and
    "world_facts", each also with "_perturbed" answers, and "holdout". Needs merge: all of them together cost one pass
    over each role and one generation for each of the four sets of questions.

    Args:
        max_new_tokens: length at which generation stops; 200 in OpenUnlearning.
        stop: strings at which it stops too.
        oracle: name of the model retrained without the forget set. None: there is none, and no "forget_quality",
            "truth_ratio_distance", "privleak", "privacy" and "mia_reference".
        holdout: role of questions that no model was trained on. None: there are none, and no membership attacks.
    """
    decoding = Greedy(max_new_tokens, stop)
    utility = ModelUtility(decoding=decoding)
    metrics: dict[str, Metric] = {
        "forget_probability": Probability("forget"),
        "forget_paraphrased_probability": ParaphraseProbability("forget_paraphrased"),
        "forget_rouge": Rouge("forget", decoding),
        "forget_truth_ratio": TruthRatio("forget"),
        "exact_memorization": ExactMemorization("forget"),
        "extraction_strength": ExtractionStrength("forget"),
        "memorization": Memorization("forget"),
        "forget_confidence": TokenConfidence("forget"),
        "forget_ngram_entropy": NgramEntropy("forget", decoding),
    }
    if oracle is not None:
        metrics["forget_quality"] = ForgetQuality("forget", oracle=oracle)
        metrics["truth_ratio_distance"] = TruthRatioDistance("forget", oracle=oracle)
    if holdout is not None:
        metrics |= membership_metrics(members="forget", non_members=holdout, oracle=oracle)
    return metrics | dict(utility.terms) | {"model_utility": utility}


def membership_metrics(
    *, members: str = "forget", non_members: str = "holdout", oracle: str | None = "oracle"
) -> dict[str, Metric]:
    """The membership attacks that OpenUnlearning runs in one pass, PrivLeak, and the privacy score made of them.

    Min-K and Min-K++ take 40 % of the tokens and leave out the last one, as there.

    Args:
        members: role of the texts that were trained on.
        non_members: role of texts like them that no model was trained on.
        oracle: name of the retrained model. None: no comparison with one.
    """
    attacks: dict[str, Attack] = {
        "mia_loss": Loss(),
        "mia_zlib": Zlib(),
        "mia_min_k": MinK(k=0.4, drop_last=True),
        "mia_min_k_plus_plus": MinKPlusPlus(k=0.4, drop_last=True),
    }
    if oracle is not None:
        attacks["mia_reference"] = Reference(of=oracle)
    metrics: dict[str, Metric] = {
        name: MembershipInference(attack, members=members, non_members=non_members) for name, attack in attacks.items()
    }
    if oracle is None:
        return metrics
    four = {name.removeprefix("mia_"): attacks[name] for name in list(attacks)[:4]}
    min_k = MembershipInference(attacks["mia_min_k"], members=members, non_members=non_members)
    metrics["privleak"] = PrivLeak(min_k, oracle=oracle)
    metrics["privacy"] = Privacy(four, members=members, non_members=non_members, oracle=oracle)
    return metrics
