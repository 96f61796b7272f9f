"""Metrics: pure functions, and the classes that say what they need and turn it into a score."""

from unlearnkit.metrics.approximate_retraining import DocumentAccuracy, DocumentPerplexity, UnseenAttack
from unlearnkit.metrics.aus import AdaptiveUnlearningScore
from unlearnkit.metrics.benchmark_squared import benchmark_quality
from unlearnkit.metrics.bento import greedy_tasks
from unlearnkit.metrics.blur import Blur, OriginalFluency
from unlearnkit.metrics.closer_look import (
    CloserLookUtility,
    CosineSimilarity,
    EntailmentScore,
    ForgetEfficacy,
    TokenEntropy,
    TruthOfLosses,
)
from unlearnkit.metrics.conceptvectors import ConceptBehaviour, concept_trace
from unlearnkit.metrics.dcue import DCUE
from unlearnkit.metrics.deep_unlearning import DeepUnlearning
from unlearnkit.metrics.dusk import Verbatim, downstream_mean, shared_knowledge
from unlearnkit.metrics.e2lm import e2lm_score
from unlearnkit.metrics.exposure import ExposureLogProb, ExposureRank, GeneralizedExposure, RelativeExposure, Stratified
from unlearnkit.metrics.extraction_likelihood import (
    ExtractionLikelihood,
    MemorizationAccuracy,
    SensitiveExtractionLikelihood,
    SensitiveMemorizationAccuracy,
)
from unlearnkit.metrics.fade import Fade
from unlearnkit.metrics.faithfulness import faithfulness
from unlearnkit.metrics.familiarity import Familiarity
from unlearnkit.metrics.fluency import AnswerPerplexity, ClassifierFluency, SeenNgrams
from unlearnkit.metrics.forget_degree import ForgetDegree, RetainUtility
from unlearnkit.metrics.forget_quality import ForgetQuality, KSTest, ks_test
from unlearnkit.metrics.gone import Locality, ReasoningLeakage, UnlearningEfficacy
from unlearnkit.metrics.intervals import with_interval
from unlearnkit.metrics.klom import KLoM
from unlearnkit.metrics.knowundo import RetentionSuccess, UnlearnSuccess
from unlearnkit.metrics.leaderboard import Leaderboard, Memorization, ParaphraseProbability, Utility
from unlearnkit.metrics.leak_at_k import LeakAtK
from unlearnkit.metrics.membership import (
    Lowercase,
    MembershipInference,
    MembershipScore,
    MinK,
    MinKPlusPlus,
    Reference,
    Zlib,
    auc,
    min_k_plus_plus_scores,
    min_k_scores,
    roc_curve,
    tpr_at_fpr,
)
from unlearnkit.metrics.memo import Memo
from unlearnkit.metrics.memorization import (
    ExactMemorization,
    ExtractionStrength,
    exact_memorization,
    extraction_strength,
)
from unlearnkit.metrics.model_utility import ModelUtility, harmonic_mean
from unlearnkit.metrics.muse import KnowMem, VerbMem, utility_slope
from unlearnkit.metrics.ngram_entropy import NgramEntropy
from unlearnkit.metrics.nomus import NoMUS, loss_attack_accuracy
from unlearnkit.metrics.paired import PairedComparison, compare_paired
from unlearnkit.metrics.porter import porter_stem
from unlearnkit.metrics.privacy import Privacy, PrivLeak, RelDiff, RetainDeviation, priv_leak, s_mia
from unlearnkit.metrics.probability import Probability, ProbabilityMC, answer_probability, probability_mc
from unlearnkit.metrics.robustness import metric_robustness
from unlearnkit.metrics.rouge import Overlap, Rouge, rouge
from unlearnkit.metrics.rouge_words import RougeWords
from unlearnkit.metrics.rwku import AnswerMatch, ProbeLevels, ProbeRecall, TruthfulChoice
from unlearnkit.metrics.semeval import SemEvalScore, TaskAggregate
from unlearnkit.metrics.seps import Seps
from unlearnkit.metrics.similarity import ErasureScore, LinearCKA
from unlearnkit.metrics.suite import membership_metrics, tofu_metrics
from unlearnkit.metrics.token_confidence import TokenConfidence
from unlearnkit.metrics.truth_ratio import TruthRatio, log_truth_ratio, truth_score
from unlearnkit.metrics.truth_ratio_distance import TruthRatioDistance
from unlearnkit.metrics.waterdrum import WaterDrum
from unlearnkit.metrics.widedeep import WideDeepPreference

__all__ = [
    "DCUE",
    "AdaptiveUnlearningScore",
    "AnswerMatch",
    "AnswerPerplexity",
    "Blur",
    "ClassifierFluency",
    "CloserLookUtility",
    "ConceptBehaviour",
    "CosineSimilarity",
    "DeepUnlearning",
    "DocumentAccuracy",
    "DocumentPerplexity",
    "EntailmentScore",
    "ErasureScore",
    "ExactMemorization",
    "ExposureLogProb",
    "ExposureRank",
    "ExtractionLikelihood",
    "ExtractionStrength",
    "Fade",
    "Familiarity",
    "ForgetDegree",
    "ForgetEfficacy",
    "ForgetQuality",
    "GeneralizedExposure",
    "KLoM",
    "KSTest",
    "KnowMem",
    "Leaderboard",
    "LeakAtK",
    "LinearCKA",
    "Locality",
    "Lowercase",
    "MembershipInference",
    "MembershipScore",
    "Memo",
    "Memorization",
    "MemorizationAccuracy",
    "MinK",
    "MinKPlusPlus",
    "ModelUtility",
    "NgramEntropy",
    "NoMUS",
    "OriginalFluency",
    "Overlap",
    "PairedComparison",
    "ParaphraseProbability",
    "PrivLeak",
    "Privacy",
    "Probability",
    "ProbabilityMC",
    "ProbeLevels",
    "ProbeRecall",
    "ReasoningLeakage",
    "Reference",
    "RelDiff",
    "RelativeExposure",
    "RetainDeviation",
    "RetainUtility",
    "RetentionSuccess",
    "Rouge",
    "RougeWords",
    "SeenNgrams",
    "SemEvalScore",
    "SensitiveExtractionLikelihood",
    "SensitiveMemorizationAccuracy",
    "Seps",
    "Stratified",
    "TaskAggregate",
    "TokenConfidence",
    "TokenEntropy",
    "TruthOfLosses",
    "TruthRatio",
    "TruthRatioDistance",
    "TruthfulChoice",
    "UnlearnSuccess",
    "UnlearningEfficacy",
    "UnseenAttack",
    "Utility",
    "VerbMem",
    "Verbatim",
    "WaterDrum",
    "WideDeepPreference",
    "Zlib",
    "answer_probability",
    "auc",
    "benchmark_quality",
    "compare_paired",
    "concept_trace",
    "downstream_mean",
    "e2lm_score",
    "exact_memorization",
    "extraction_strength",
    "faithfulness",
    "greedy_tasks",
    "harmonic_mean",
    "ks_test",
    "log_truth_ratio",
    "loss_attack_accuracy",
    "membership_metrics",
    "metric_robustness",
    "min_k_plus_plus_scores",
    "min_k_scores",
    "porter_stem",
    "priv_leak",
    "probability_mc",
    "roc_curve",
    "rouge",
    "s_mia",
    "shared_knowledge",
    "tofu_metrics",
    "tpr_at_fpr",
    "truth_score",
    "utility_slope",
    "with_interval",
]
