"""What is built: one row per method, metric and procedure, with its paper, its place, and what its numbers were checked against.

A plain tuple, read by the command line, the documentation and the tests. Nothing registers itself, and importing this
module imports none of the methods: `load` does.
"""

from __future__ import annotations

from importlib import import_module
from typing import Literal, NamedTuple, get_args

from attrs import field, frozen
from attrs.validators import in_, matches_re, optional

Kind = Literal[
    "objective",
    "adversary",
    "optimizer",
    "data",
    "procedure",
    "metric",
    "meta_evaluation",
    "scorer",
    "edit",
    "decoding",
    "attack",
]
"""A loss to train on; what perturbs hidden states before it is computed; a way to the step's gradient or from it to new
weights; what makes or chooses the rows that are trained on; what takes more than one pass, to unlearn or to measure; a
number to report, or one about metrics; a judge of answers to benchmark items; a change of weights; a model that unlearns
while it decodes; or what looks for knowledge that was only hidden."""

Confidence = Literal["code", "reimpl", "paper", "reconstructed"]
"""Written from the authors' code, from somebody else's, from the paper alone, or filled in where that is silent."""


@frozen(kw_only=True)
class Entry:
    """A row of the catalog.

    Attributes:
        key: short name, unique; what the command line calls it.
        name: what papers call it.
        kind: what it is.
        paper: short citation.
        year: of the paper.
        arxiv: its number, if the paper has one.
        where: "module:class".
        confidence: what it was written from.
        verified: what its numbers were compared with; empty where `unlearnkit.verify` finds that out.
    """

    key: str = field(validator=matches_re(r"[a-z][a-z0-9_]*"))
    name: str
    kind: Kind = field(validator=in_(get_args(Kind)))
    paper: str
    year: int
    arxiv: str | None = field(validator=optional(matches_re(r"\d{4}\.\d{5}")))
    where: str = field(validator=matches_re(r"unlearnkit(\.\w+)+:\w+"))
    confidence: Confidence = field(validator=in_(get_args(Confidence)))
    verified: str = ""


def load(entry: Entry) -> object:
    """Import what an entry describes."""
    module, name = entry.where.split(":")
    found: object = getattr(import_module(module), name)
    return found


class Paper(NamedTuple):
    """A citation, the year, and the arXiv number if there is one."""

    cite: str
    year: int
    arxiv: str | None


def entry(
    kind: Kind, key: str, name: str, paper: Paper, where: str, confidence: Confidence, verified: str = ""
) -> Entry:
    """A row; `where` leaves out "unlearnkit."."""
    return Entry(
        key=key,
        name=name,
        kind=kind,
        paper=paper.cite,
        year=paper.year,
        arxiv=paper.arxiv,
        where=f"unlearnkit.{where}",
        confidence=confidence,
        verified=verified,
    )


TOFU = Paper("Maini et al., TOFU, COLM 2024", 2024, "2401.06121")
OPEN_UNLEARNING = Paper("Dorna et al., OpenUnlearning, NeurIPS 2025", 2025, "2506.12618")
MUSE = Paper("Shi et al., MUSE, ICLR 2025", 2024, "2407.06460")
RWKU = Paper("Jin et al., RWKU, NeurIPS 2024", 2024, "2406.10890")
DUSK = Paper("Jeung et al., DUSK", 2025, "2505.15209")
ROUGE = Paper("Lin, ROUGE, Text Summarization Branches Out 2004", 2004, None)
TIRUMALA = Paper("Tirumala et al., Memorization Without Overfitting, NeurIPS 2022", 2022, "2205.10770")
CARLINI = Paper(
    "Carlini et al., Extracting Training Data from Large Language Models, USENIX Security 2021", 2021, "2012.07805"
)
MIN_K = Paper("Shi et al., Detecting Pretraining Data from Large Language Models, ICLR 2024", 2024, "2310.16789")
REMEM = Paper("Kwon et al., Before Forgetting, Learn to Remember, Findings of ACL 2026", 2026, "2605.03759")
SECRET_SHARER = Paper("Carlini et al., The Secret Sharer, USENIX Security 2019", 2019, "1802.08232")
BALUTA = Paper("Baluta et al., Unlearning in- vs. out-of-distribution Data in LLMs, SafeGenAI 2024", 2024, "2411.04388")
TRUTHFUL_QA = Paper("Lin, Hilton, Evans, TruthfulQA, ACL 2022", 2022, "2109.07958")
KNOWUNDO = Paper("Tian et al., To Forget or Not?, Findings of EMNLP 2024", 2024, "2407.01920")
ROME = Paper("Meng et al., Locating and Editing Factual Associations in GPT, NeurIPS 2022", 2022, "2202.05262")
PISTOL = Paper("Qiu, Shen et al., PISTOL", 2024, "2406.16810")
GSM8K = Paper("Cobbe et al., Training Verifiers to Solve Math Word Problems", 2021, "2110.14168")
OWN = Paper("unlearnkit", 2026, None)
CLOSER_LOOK = Paper("Yuan et al., A Closer Look at Machine Unlearning for LLMs, ICLR 2025", 2025, "2410.08109")
SEPS = Paper("Jeung et al., SEPS, EMNLP 2025", 2025, "2505.14832")
FIT = Paper("Xu et al., FIT", 2026, "2601.21682")
KLOM = Paper("Georgiev et al., Attribute-to-Delete", 2024, "2410.23232")
DUCK = Paper("Cotogni et al., DUCK", 2023, "2312.02052")
MUFAC = Paper("Choi, Na, Towards Machine Unlearning Benchmarks, AAAI 2024 workshop", 2024, "2311.02240")
KIM = Paper("Kim, Cha, Kim, Are We Truly Forgetting?", 2025, "2503.06991")
UDS = Paper("Lee et al., Unlearning Depth Score", 2026, "2605.24614")
E2LM = Paper("Yagoubi et al., E2LM Competition, NeurIPS 2025", 2025, "2506.07731")
BENCHMARK_SQUARED = Paper("Qian et al., Benchmark²", 2026, "2601.03986")
BENTO = Paper("Zhao et al., BenTo", 2024, "2410.13804")
WIDEDEEP = Paper("Zhang et al., Wider and Deeper LLM Networks are Fairer LLM Evaluators", 2023, "2308.01862")
BLUR = Paper("Hu et al., BLUR", 2025, "2506.15699")
PAIRED = Paper("Phipson, Smyth, Permutation P-values Should Never Be Zero, SAGMB 2010", 2010, None)
UWC = Paper(
    "Wang et al., Towards Effective Evaluations and Comparisons for LLM Unlearning Methods, ICLR 2025",
    2024,
    "2406.09179",
)
PRE = Paper("Yao et al., Machine Unlearning of Pre-trained Large Language Models, ACL 2024", 2024, "2402.15159")
IMPOSSIBLE = Paper("Yu et al., On the Impossibility of Retrain Equivalence in Machine Unlearning", 2025, "2510.16629")
DEEP_UNLEARNING = Paper("Wu et al., Evaluating Deep Unlearning in Large Language Models", 2024, "2410.15153")
GONE = Paper("Dahal, Balasubramaniam, Xiong, GONE", 2026, "2603.12275")
WHP = Paper("Eldan, Russinovich, Who's Harry Potter?", 2023, "2310.02238")
SEMEVAL = Paper("Ramakrishna et al., SemEval-2025 Task 4", 2025, "2504.02883")
CONCEPT_VECTORS = Paper(
    "Hong et al., Intrinsic Test of Unlearning Using Parametric Knowledge Traces", 2024, "2406.11614"
)
UCD = Paper("Suriyakumar, Sekhari, Wilson, UCD", 2025, "2506.12097")
ICUL = Paper("Pawelczyk, Neel, Lakkaraju, In-Context Unlearning, ICML 2024", 2023, "2310.07579")
GUARD_GENERATION = Paper(
    "Deng et al., GUARD: Generation-time LLM Unlearning via Adaptive Restriction and Detection", 2025, "2505.13312"
)
ECO = Paper(
    "Liu et al., Large Language Model Unlearning via Embedding-Corrupted Prompts, NeurIPS 2024", 2024, "2406.07933"
)
GUARDRAILS = Paper("Thaker et al., Guardrail Baselines for Unlearning in LLMs", 2024, "2403.03329")
ALU = Paper("Sanyal, Mandal, Agents Are All You Need for LLM Unlearning", 2025, "2502.00406")
RTT = Paper("Deeb, Roger, Do Unlearning Methods Remove Information from Language Model Weights?", 2024, "2410.08827")
LUCKI = Paper(
    "Łucki et al., An Adversarial Perspective on Machine Unlearning for AI Safety, TMLR 2025", 2024, "2409.18025"
)
LENS = Paper("Belrose et al., Eliciting Latent Predictions from Transformers with the Tuned Lens", 2023, "2303.08112")
EIGHT = Paper("Lynch et al., Eight Methods to Evaluate Robust Unlearning in LLMs", 2024, "2402.16835")
ARDITI = Paper("Arditi et al., Refusal in Language Models Is Mediated by a Single Direction", 2024, "2406.11717")
GCG = Paper("Zou et al., Universal and Transferable Adversarial Attacks on Aligned Language Models", 2023, "2307.15043")
SOFT_PROMPTS = Paper("Schwinn et al., Soft Prompt Threats, NeurIPS 2024", 2024, "2402.09063")
BLACK_BOX = Paper("Doshi, Cooper Stickland, Does Unlearning Truly Unlearn?", 2024, "2411.12103")
WORST_CASE = Paper("ULBench, worst-case leakage", 2026, None)
REBEL = Paper("Rybak et al., REBEL", 2026, "2602.06248")
TRACE = Paper("Chen et al., Unlearning Isn't Invisible", 2025, "2506.14003")
HOLES = Paper("Ko et al., Probing Knowledge Holes in Unlearned LLMs, NeurIPS 2025", 2025, "2511.00030")
MIRAGE = Paper("Shah et al., The Unlearning Mirage", 2026, "2603.11266")
CROSSLINGUAL = Paper(
    "Lizzo, Heck, Evaluating Cross-Lingual Unlearning in Multilingual Language Models", 2026, "2601.06675"
)
BENIGN = Paper(
    "Thaker et al., Position: LLM Unlearning Benchmarks Are Weak Measures of Progress, SaTML 2025", 2024, "2410.02879"
)
JOG = Paper("Hu et al., Jogging the Memory of Unlearned LLMs via Benign Relearning, ICLR 2025", 2024, "2406.13356")
QUANTIZATION = Paper(
    "Zhang et al., Catastrophic Failure of LLM Unlearning via Quantization, ICLR 2025", 2025, "2410.16454"
)
OFFSET = Paper("Huang et al., Offset Unlearning for Large Language Models, TMLR 2025", 2024, "2404.11045")
CONTRASTIVE = Paper("Li et al., Contrastive Decoding, ACL 2023", 2022, "2210.15097")
MRD = Paper("Feng et al., A Neuro-inspired Interpretation of Unlearning in Large Language Models", 2025, "2504.06658")
G_EFFECT = Paper("Wang et al., Rethinking LLM Unlearning Objectives, ICLR 2025", 2025, "2502.19301")
ULD = Paper("Ji et al., Reversing the Forget-Retain Objectives, NeurIPS 2024", 2024, "2406.08607")
LIVEBENCH = Paper("White et al., LiveBench, ICLR 2025", 2024, "2406.19314")
JEEBENCH = Paper("Arora, Singh, Mausam, Have LLMs Advanced Enough?, EMNLP 2023", 2023, "2305.15074")
NEWTERM = Paper("Deng et al., NewTerm, NeurIPS 2024", 2024, "2410.20814")
HLE = Paper("Phan et al., Humanity's Last Exam", 2025, "2501.14249")
EVOEVAL = Paper("Xia, Deng, Zhang, EvoEval, COLM 2024", 2024, "2403.19114")
ALPHA_EXCEL = Paper("Noever, McKee, Alpha Excel Benchmark", 2025, "2505.04110")
MEMORYBENCH = Paper("Ai et al., MemoryBench", 2025, "2510.17281")
BENCHMARK_CARDS = Paper("Sokol et al., BenchmarkCards, NeurIPS 2025", 2024, "2410.12974")
MMLU = Paper("Hendrycks et al., MMLU, ICLR 2021", 2020, "2009.03300")
GPT3 = Paper("Brown et al., Language Models are Few-Shot Learners, NeurIPS 2020", 2020, "2005.14165")
SCALES_PP = Paper("Bean et al., Scales++", 2025, "2510.26384")
ACTIVE = Paper("Li et al., Active Evaluation Acquisition, ICML 2025", 2024, "2410.05952")
JANG = Paper("Jang et al., Knowledge Unlearning for Mitigating Privacy Risks, ACL 2023", 2023, "2210.01504")
SEUL = Paper("Wang et al., Selective Forgetting, AAAI 2025", 2024, "2402.05813")
MEOW = Paper("Gu et al., MEOW", 2024, "2409.11844")
LEAK_AT_K = Paper("Reisizadeh et al., Leak@k", 2025, "2511.04934")
WATERDRUM = Paper("Lu et al., WaterDrum", 2025, "2505.05064")
DCUE = Paper("Miao et al., Towards Evaluation for Real-World LLM Unlearning", 2025, "2508.01324")
FADE = Paper("Cho et al., Reference-Specific Unlearning Metrics Can Hide the Truth", 2025, "2510.12981")
CONTINUAL = Paper("Liu, Liu, Stone, Continual Learning and Private Unlearning, CoLLAs 2022", 2022, "2203.12817")
NPO = Paper("Zhang, Lin, Bai, Mei, NPO, COLM 2024", 2024, "2404.05868")
SIMNPO = Paper("Fan et al., Simplicity Prevails, NeurIPS 2025", 2025, "2410.07163")
WMDP = Paper("Li et al., The WMDP Benchmark, ICML 2024", 2024, "2403.03218")
KTO = Paper("Ethayarajh et al., KTO, ICML 2024", 2024, "2402.01306")
ALTPO = Paper("Mekala, Dorna et al., Alternate Preference Optimization, COLING 2025", 2024, "2409.13474")
LLMU = Paper("Yao, Xu, Liu, Large Language Model Unlearning, NeurIPS 2024", 2023, "2310.10683")
UNEQUAL = Paper("Krishnan, Reddy, Mosbach, Not All Data Are Unlearned Equally", 2025, "2504.05058")
UNDIAL = Paper("Dong et al., UNDIAL, NAACL 2025", 2025, "2402.10052")
CE_U = Paper("Yang, CE-U: Cross Entropy Unlearning", 2025, "2503.01224")
LOKU = Paper(
    "Cha et al., Towards Robust and Parameter-Efficient Knowledge Unlearning for LLMs, ICLR 2025", 2024, "2408.06621"
)
CATNIP = Paper("Yang, Zhong, Hong, Zhu, CATNIP", 2026, "2602.02824")
SHUMEI = Paper("Sun, Li, iShumei-Chinchunmei at SemEval-2025 Task 4", 2025, "2507.16263")
PDU = Paper("Entesari et al., Constrained Entropic Unlearning, NeurIPS 2025", 2025, "2506.05314")
JENSUN = Paper("Singh et al., Unlearning That Lasts", 2025, "2509.02820")
FLAT = Paper("Wang et al., LLM Unlearning via Loss Adjustment with Only Forget Data, ICLR 2025", 2024, "2410.11143")
ADAPTIVE_RMU = Paper(
    "Huu-Tien et al., On Effects of Steering Latent Representation for LLM Unlearning, AAAI 2025", 2024, "2408.06223"
)
ERU = Paper("Sui et al., Elastic Robust Unlearning, NeurIPS 2025", 2025, None)
DUET = Paper("Zhong, Yang, Zhu, DUET, ICLR 2026", 2026, "2601.21283")
WPU = Paper("Liu et al., Revisiting Who's Harry Potter, EMNLP 2024", 2024, "2407.16997")
SU = Paper("Wan et al., Not Every Token Needs Forgetting, Findings of EMNLP 2025", 2025, "2506.00876")
DTO = Paper("Lee, Liu, Xiong, Direct Token Optimization, Findings of ACL 2026", 2025, "2510.00125")
HARDWARE = Paper("Liang et al., When Forgetting Builds Reliability", 2025, "2512.05341")
GUARD = Paper("Niu et al., GUARD: Guided Unlearning and Retention via Data Attribution", 2025, "2506.10946")
CORESET = Paper("Pal et al., LLM Unlearning Reveals a Stronger-Than-Expected Coreset Effect", 2025, "2504.10185")
SGA = Paper("Barbulescu, Triantafillou, To Each (Textual Sequence) Its Own, ICML 2024", 2024, "2405.03097")
SATIMP = Paper(
    "Yang et al., Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning, ICML 2025", 2025, "2505.11953"
)
LAU = Paper("Yuan et al., Towards Robust Knowledge Unlearning, AAAI 2025", 2024, "2408.10682")
LAT = Paper(
    "Sheshadri et al., Latent Adversarial Training Improves Robustness to Persistent Harmful Behaviors",
    2024,
    "2407.15549",
)
SMOOTH = Paper("Fan et al., Towards LLM Unlearning Resilient to Relearning Attacks, ICML 2025", 2025, "2502.05374")
GRADE = Paper("Lang et al., Downgrade to Upgrade, ICLR 2026", 2025, "2510.00761")
SOUL = Paper("Jia et al., SOUL, EMNLP 2024", 2024, "2404.18239")
GRPO = Paper("Shao et al., DeepSeekMath", 2024, "2402.03300")
PURGE = Paper("Zaradoukas, Prenkaj, Kasneci, PURGE, ICLR 2026", 2026, "2601.20568")


CATALOG: tuple[Entry, ...] = (
    # --- objectives -----------------------------------------------------------------------------------------------
    entry(
        "objective",
        "retain_nll",
        "Fine-tuning, retain cross-entropy (RT, GD, GDR)",
        TOFU,
        "objectives.cross_entropy:CrossEntropy",
        "code",
    ),
    entry("objective", "retain_kl", "Retain KL divergence (KL, KLR)", TOFU, "objectives.retain_kl:RetainKL", "code"),
    entry("objective", "ga", "Gradient ascent (GA)", JANG, "objectives.gradient_ascent:GradientAscent", "code"),
    entry(
        "objective",
        "grad_diff",
        "Gradient difference (GradDiff, GA+GD)",
        CONTINUAL,
        "objectives.grad_diff:GradDiff",
        "code",
    ),
    entry("objective", "ga_kl", "GA with KL minimisation", TOFU, "objectives.ga_kl:GradientAscentKL", "code"),
    entry("objective", "idk_nll", "IDK fine-tuning (IdkNLL)", TOFU, "objectives.idk:IdkNLL", "code"),
    entry(
        "objective",
        "dpo_idk",
        "DPO towards refusals or alternate answers (IdkDPO, AltPO)",
        NPO,
        "objectives.dpo:DPO",
        "code",
    ),
    entry("objective", "npo", "Negative preference optimization (NPO)", NPO, "objectives.npo:NPO", "code"),
    entry("objective", "simnpo", "SimNPO", SIMNPO, "objectives.simnpo:SimNPO", "code"),
    entry("objective", "rmu", "Representation misdirection for unlearning (RMU)", WMDP, "objectives.rmu:RMU", "code"),
    entry(
        "objective",
        "uniform_kl",
        "KL from uniform (the assistant of ULD)",
        ULD,
        "objectives.uniform_kl:UniformKL",
        "code",
    ),
    entry(
        "objective",
        "unlikelihood",
        "Unlikelihood (away loss of LAT)",
        LAT,
        "objectives.unlikelihood:Unlikelihood",
        "code",
    ),
    entry("objective", "wga", "Weighted gradient ascent (WGA)", G_EFFECT, "objectives.wga:WGA", "code"),
    entry("objective", "tnpo", "Token-wise NPO, weighted too (TNPO, WTNPO)", G_EFFECT, "objectives.tnpo:TNPO", "code"),
    entry("objective", "satimp", "SatImp, SimSat, SimImp", SATIMP, "objectives.satimp:SatImp", "code"),
    entry(
        "objective",
        "importance_ascent",
        "Ascent on marked tokens",
        SATIMP,
        "objectives.importance:ImportanceAscent",
        "code",
    ),
    entry("objective", "importance_npo", "NPO on marked tokens", SATIMP, "objectives.importance:ImportanceNPO", "code"),
    entry(
        "objective",
        "weighted_ascent",
        "Ascent with given token weights",
        SATIMP,
        "objectives.weighted_ascent:WeightedAscent",
        "code",
    ),
    entry(
        "objective",
        "example_weighted",
        "Any objective with given example weights",
        GUARD,
        "objectives.example_weighted:ExampleWeighted",
        "paper",
    ),
    entry("objective", "kto_forget", "KTO with refusals as the offset", KTO, "objectives.kto:KTO", "code"),
    entry(
        "objective", "idk_ap", "IDK with answer preservation (IDK+AP)", CLOSER_LOOK, "objectives.idk_ap:IdkAP", "code"
    ),
    entry(
        "objective",
        "answer_preservation",
        "Answer preservation (AP)",
        CLOSER_LOOK,
        "objectives.idk_ap:AnswerPreservation",
        "code",
    ),
    entry(
        "objective",
        "altpo",
        "Alternate preference optimization (AltPO and its other losses)",
        ALTPO,
        "objectives.altpo:AltPO",
        "code",
    ),
    entry("objective", "llmu", "LLMU (ascent, random mismatch, KL)", LLMU, "objectives.llmu:LLMU", "code"),
    entry(
        "objective",
        "unequal_unlearning",
        "Unequal unlearning's losses",
        UNEQUAL,
        "objectives.unequal:UnequalUnlearning",
        "code",
    ),
    entry(
        "objective",
        "undial",
        "UNDIAL, self-distillation with adjusted logits",
        UNDIAL,
        "objectives.undial:UNDIAL",
        "code",
    ),
    entry("objective", "ce_u", "Cross-entropy unlearning (CE-U)", CE_U, "objectives.ce_u:CEU", "code"),
    entry("objective", "ihl", "Inverted hinge loss (LoKU)", LOKU, "objectives.inverted_hinge:IHL", "code"),
    entry("objective", "me_gd", "Maximum entropy (ME, ME+GD)", CLOSER_LOOK, "objectives.maximum_entropy:ME", "code"),
    entry("objective", "catnip", "CATNIP", CATNIP, "objectives.catnip:CATNIP", "reconstructed"),
    entry(
        "objective",
        "eul",
        "Effective unlearning loss (iShumei-Chinchunmei)",
        SHUMEI,
        "objectives.eul:EUL",
        "reconstructed",
    ),
    entry("objective", "pdu", "Primal-dual unlearning (PDU)", PDU, "objectives.pdu:PDU", "code"),
    entry("objective", "jensun", "Jensen-Shannon unlearning (JensUn)", JENSUN, "objectives.jensun:JensUn", "code"),
    entry("objective", "retain_jsd", "Retain Jensen-Shannon divergence", JENSUN, "objectives.jensun:RetainJSD", "code"),
    entry("objective", "flat", "FLAT, forget-data-only loss adjustment", FLAT, "objectives.flat:FLAT", "code"),
    entry("objective", "adaptive_rmu", "Adaptive RMU", ADAPTIVE_RMU, "objectives.adaptive_rmu:AdaptiveRMU", "code"),
    entry("objective", "eru", "Elastic robust unlearning (its reward)", ERU, "objectives.eru:ElasticReward", "code"),
    entry("objective", "duet", "DUET", DUET, "objectives.duet:DUET", "reconstructed"),
    entry(
        "objective",
        "neds",
        "Neighborhood-expanded distribution shaping (NEDS)",
        GONE,
        "objectives.neds:NEDS",
        "reconstructed",
    ),
    entry(
        "objective",
        "muse_npo",
        "NPO on raw logits, as MUSE released it",
        MUSE,
        "objectives.raw_logits:RawLogitNPO",
        "code",
    ),
    entry(
        "objective",
        "muse_simnpo",
        "SimNPO on raw logits, as released for MUSE",
        SIMNPO,
        "objectives.raw_logits:RawLogitSimNPO",
        "code",
    ),
    entry(
        "objective",
        "muse_kl",
        "Retain KL on raw logits, as MUSE released it",
        MUSE,
        "objectives.raw_logits:RawLogitKL",
        "code",
    ),
    entry(
        "objective",
        "distribution_matching",
        "Distribution matching (WPU, soft WHP labels)",
        WPU,
        "objectives.distribution_matching:DistributionMatching",
        "code",
    ),
    entry(
        "objective",
        "mp_unlearning",
        "Mixed-prompt unlearning (MP-ME; MP-IDK is cross-entropy)",
        SEPS,
        "objectives.mixed_prompt:MixedPromptKL",
        "code",
    ),
    entry("objective", "grpo", "Group-relative policy optimisation (GRPO)", GRPO, "objectives.grpo:GRPO", "code"),
    entry("objective", "dto", "Direct token optimization (DTO)", DTO, "objectives.dto:DTO", "reconstructed"),
    entry(
        "objective",
        "hw_floor_selective",
        "Floor-aware selective loss with a syntax mask",
        HARDWARE,
        "objectives.floor_selective:FloorSelective",
        "reconstructed",
    ),
    # --- what stands in front of an objective, and how its gradient becomes new weights ---
    entry(
        "adversary",
        "lau",
        "Latent adversarial unlearning (AdvGA, AdvNPO, AdvRMU)",
        LAU,
        "adversaries.lau:LatentAttack",
        "code",
    ),
    entry(
        "adversary", "lat", "Targeted latent adversarial training", LAT, "adversaries.lat:TargetedLatentAttack", "code"
    ),
    entry(
        "optimizer", "sam_unlearn", "Sharpness-aware unlearning (SAM)", SMOOTH, "optim.sharpness:SharpnessAware", "code"
    ),
    entry(
        "optimizer", "rs_unlearn", "Randomized smoothing (RS)", SMOOTH, "optim.smoothing:RandomizedSmoothing", "code"
    ),
    entry("optimizer", "gp_unlearn", "Gradient penalty (GP)", SMOOTH, "optim.penalties:GradientPenalty", "code"),
    entry(
        "optimizer", "cr_unlearn", "Curvature regularisation (CR)", SMOOTH, "optim.penalties:CurvaturePenalty", "code"
    ),
    entry("optimizer", "wa_unlearn", "Weight averaging (WA)", SMOOTH, "optim.averaging:average_weights", "code"),
    entry(
        "optimizer", "zeroth_order", "Zeroth-order gradient", GRADE, "optim.zeroth_order:ZerothOrder", "reconstructed"
    ),
    entry(
        "optimizer", "hybrid_order", "Hybrid first and zeroth order", GRADE, "optim.hybrid:Alternating", "reconstructed"
    ),
    entry(
        "optimizer",
        "sure",
        "Saliency-masked updates (SURE)",
        QUANTIZATION,
        "optim.saliency:SalientUpdates",
        "code",
        "laws only",
    ),
    entry("optimizer", "sign_sgd", "Sign of the gradient (signSGD)", GRADE, "optim.low_bit:SignSGD", "paper"),
    entry(
        "optimizer", "low_bit_adam", "Adam in a few bits (signAdam)", GRADE, "optim.low_bit:LowBitAdam", "reconstructed"
    ),
    entry(
        "optimizer", "so_unlearn", "SophiaG, the second-order companion (SOUL)", SOUL, "optim.sophia:SophiaG", "code"
    ),
    # --- what makes or chooses the rows that are trained on ---
    entry("data", "random_label", "Fine-tuning with random labels", PRE, "data.random_labels:random_labels", "code"),
    entry(
        "data",
        "adversarial_label",
        "Unlearning with adversarial samples",
        PRE,
        "data.adversarial_labels:adversarial_labels",
        "code",
    ),
    entry("data", "whp", "Who's Harry Potter, generic labels", WHP, "data.generic_labels:generic_labels", "code"),
    entry("data", "meow", "MEOW, inverted facts", MEOW, "data.inverted_facts:inverted_rows", "code"),
    entry(
        "data", "mixed_prompts", "Mixed prompts, two questions in one", SEPS, "data.mixed_prompts:mixed_rows", "code"
    ),
    entry(
        "data",
        "altpo_alternates",
        "AltPO's alternates, written by the model",
        ALTPO,
        "data.alternates:alternates",
        "code",
    ),
    entry("data", "mismatched", "Random answers to forget prompts (LLMU)", LLMU, "data.mismatched:mismatched", "code"),
    entry(
        "data",
        "selective_unlearning_su",
        "Selective unlearning (SU), tokens two assistants disagree on",
        SU,
        "data.selective_unlearning:selective_unlearning",
        "reconstructed",
    ),
    entry("data", "seul", "Span unlearning (SeUL)", SEUL, "data.spans:span_rows", "reconstructed"),
    entry(
        "data", "verilog_syntax", "Syntax mask of Verilog", HARDWARE, "data.verilog_syntax:syntax_mask", "reconstructed"
    ),
    entry(
        "data",
        "mrd_curriculum",
        "Sampling by memory removal difficulty (CGA)",
        MRD,
        "data.curriculum:drawn_rows",
        "paper",
    ),
    entry("data", "coreset_effect", "Coresets of the forget set", CORESET, "data.coresets:coreset", "reconstructed"),
    entry(
        "data", "graph_forget", "Forget sets from a graph (PISTOL)", PISTOL, "data.graph_forget:cut", "reconstructed"
    ),
    entry(
        "data",
        "redundancy",
        "N-gram and embedding redundancy",
        OWN,
        "data.redundancy:ngram_redundancy",
        "reconstructed",
    ),
    entry(
        "data",
        "continual_protocol",
        "Continual unlearning requests",
        CLOSER_LOOK,
        "data.continual:continual_requests",
        "code",
    ),
    entry("data", "npo_synthetic", "NPO's random-feature experiment", NPO, "data.random_features:draw_toy", "code"),
    entry(
        "data", "simnpo_synthetic", "SimNPO's mixture of Markov chains", SIMNPO, "data.markov_chains:chain_rows", "code"
    ),
    # --- procedures that unlearn, or choose what is unlearned ---
    entry(
        "procedure",
        "guard_attr",
        "GUARD, weights by data attribution",
        GUARD,
        "procedures.attribution:guard",
        "reconstructed",
    ),
    entry(
        "procedure",
        "delta_scores",
        "Delta-scores of DTO",
        DTO,
        "procedures.delta_scores:delta_scores",
        "reconstructed",
    ),
    entry(
        "procedure",
        "sga",
        "Selective gradient ascent (SGA)",
        SGA,
        "procedures.selective_ascent:selective_ascent",
        "reconstructed",
    ),
    entry("procedure", "purge_grpo", "PURGE, rewards for not naming a target", PURGE, "procedures.purge:purge", "code"),
    entry("procedure", "fit", "FIT, filtered and targeted continual unlearning", FIT, "procedures.fit:fit", "code"),
    # --- metrics and what belongs to them ---
    entry(
        "meta_evaluation",
        "unequal_analysis",
        "Scores by frequency, and the gap of two scores",
        UNEQUAL,
        "metrics.frequency:by_frequency",
        "reconstructed",
        "closed forms",
    ),
    entry(
        "metric",
        "probability",
        "Answer probability",
        TOFU,
        "metrics.probability:Probability",
        "code",
        "locuslab/open-unlearning@d3d7cf9, recorded logs of locuslab/tofu@bdc209e",
    ),
    entry(
        "metric",
        "probability_mc",
        "Answer probability against wrong options",
        TOFU,
        "metrics.probability:ProbabilityMC",
        "code",
        "recorded logs of locuslab/tofu@bdc209e",
    ),
    entry(
        "metric",
        "truth_ratio",
        "Truth ratio",
        TOFU,
        "metrics.truth_ratio:TruthRatio",
        "code",
        "recorded logs of locuslab/tofu@bdc209e",
    ),
    entry(
        "metric",
        "rouge",
        "ROUGE",
        ROUGE,
        "metrics.rouge:Rouge",
        "code",
        "Google's rouge_score 0.1.2, recorded logs of locuslab/tofu@bdc209e",
    ),
    entry(
        "metric",
        "tofu_model_utility",
        "Model utility",
        TOFU,
        "metrics.model_utility:ModelUtility",
        "code",
        "recorded logs of locuslab/tofu@bdc209e",
    ),
    entry(
        "metric",
        "tofu_forget_quality",
        "Forget quality",
        TOFU,
        "metrics.forget_quality:ForgetQuality",
        "code",
        "recorded logs of locuslab/tofu@bdc209e",
    ),
    entry(
        "metric",
        "truth_ratio_distance",
        "Truth ratio distance (Wasserstein, Jensen-Shannon, 1 - D)",
        TOFU,
        "metrics.truth_ratio_distance:TruthRatioDistance",
        "reconstructed",
        "scipy 1.17.1, recorded logs of locuslab/tofu@bdc209e",
    ),
    entry(
        "metric",
        "exact_memorization",
        "Exact memorization (EM)",
        TIRUMALA,
        "metrics.memorization:ExactMemorization",
        "code",
        "locuslab/open-unlearning@d3d7cf9",
    ),
    entry(
        "metric",
        "extraction_strength",
        "Extraction strength (ES)",
        CARLINI,
        "metrics.memorization:ExtractionStrength",
        "code",
        "locuslab/open-unlearning@d3d7cf9",
    ),
    entry(
        "metric",
        "membership_inference",
        "Membership inference AUC (loss, reference, zlib, lowercase, Min-K, Min-K++)",
        MIN_K,
        "metrics.membership:MembershipInference",
        "code",
        "swj0419/muse_bench@fcd6651, AI-ISL/DUSK@129a0a5, jinzhuoran/RWKU@b8a03b3, locuslab/open-unlearning@d3d7cf9",
    ),
    entry(
        "metric",
        "membership_score",
        "Mean membership score (RWKU MIA)",
        RWKU,
        "metrics.membership:MembershipScore",
        "code",
        "jinzhuoran/RWKU@b8a03b3, locuslab/open-unlearning@d3d7cf9",
    ),
    entry(
        "metric",
        "priv_leak",
        "PrivLeak (MUSE, DUSK)",
        MUSE,
        "metrics.privacy:PrivLeak",
        "code",
        "swj0419/muse_bench@fcd6651, AI-ISL/DUSK@129a0a5",
    ),
    entry(
        "metric",
        "rel_diff",
        "Relative AUC difference",
        OPEN_UNLEARNING,
        "metrics.privacy:RelDiff",
        "code",
        "AI-ISL/DUSK@129a0a5, by RetainDeviation",
    ),
    entry(
        "metric",
        "retain_deviation",
        "RetainDeviation (DUSK)",
        DUSK,
        "metrics.privacy:RetainDeviation",
        "code",
        "AI-ISL/DUSK@129a0a5",
    ),
    entry(
        "metric",
        "privacy",
        "s_MIA and Privacy score",
        OPEN_UNLEARNING,
        "metrics.privacy:Privacy",
        "reimpl",
        "gnueaj/unlearning-depth-score@fc31639",
    ),
    entry(
        "metric",
        "exposure_logprob",
        "Exposure as summed log-probability (ReMem)",
        REMEM,
        "metrics.exposure:ExposureLogProb",
        "paper",
        "laws only",
    ),
    entry(
        "metric",
        "exposure_rank",
        "Exposure as rank of a secret",
        SECRET_SHARER,
        "metrics.exposure:ExposureRank",
        "paper",
        "laws only",
    ),
    entry(
        "metric",
        "gen_exposure",
        "Generalized exposure (GenEx)",
        BALUTA,
        "metrics.exposure:GeneralizedExposure",
        "reconstructed",
        "laws only",
    ),
    entry(
        "metric",
        "rel_exposure",
        "Relative exposure (RelEx)",
        BALUTA,
        "metrics.exposure:RelativeExposure",
        "reconstructed",
        "laws only",
    ),
    entry(
        "metric",
        "stratified",
        "Unlearning quality by stratum of memorisation or difficulty",
        BALUTA,
        "metrics.exposure:Stratified",
        "reconstructed",
        "laws only",
    ),
    entry(
        "metric",
        "token_confidence",
        "Token confidence summaries",
        TOFU,
        "metrics.token_confidence:TokenConfidence",
        "reconstructed",
        "laws only",
    ),
    entry(
        "metric",
        "muse_verbmem",
        "Verbatim memorization (VerbMem)",
        MUSE,
        "metrics.muse:VerbMem",
        "code",
        "swj0419/muse_bench@fcd6651",
    ),
    entry(
        "metric",
        "muse_knowmem",
        "Knowledge memorization (KnowMem) and utility preservation",
        MUSE,
        "metrics.muse:KnowMem",
        "code",
        "swj0419/muse_bench@fcd6651",
    ),
    entry(
        "meta_evaluation",
        "muse_scal_sust",
        "Scalability and sustainability",
        MUSE,
        "metrics.muse:utility_slope",
        "reconstructed",
        "laws only",
    ),
    entry(
        "metric",
        "rouge_words",
        "ROUGE over distinct words",
        ROUGE,
        "metrics.rouge_words:RougeWords",
        "code",
        "rouge 1.0.1",
    ),
    entry(
        "metric",
        "dusk_verbatim",
        "DUSK verbatim memorization",
        DUSK,
        "metrics.dusk:Verbatim",
        "code",
        "AI-ISL/DUSK@129a0a5",
    ),
    entry(
        "metric",
        "dusk_knowledge",
        "DUSK unique and shared knowledge",
        DUSK,
        "metrics.dusk:shared_knowledge",
        "code",
        "swj0419/muse_bench@fcd6651, whose scoring it shares",
    ),
    entry(
        "metric", "dusk_downstream", "DUSK downstream mean", DUSK, "metrics.dusk:downstream_mean", "code", "laws only"
    ),
    entry("metric", "rwku_probes", "RWKU probes", RWKU, "metrics.rwku:ProbeLevels", "code", "jinzhuoran/RWKU@b8a03b3"),
    entry(
        "metric",
        "rwku_answers",
        "RWKU exact match and F1",
        RWKU,
        "metrics.rwku:AnswerMatch",
        "code",
        "jinzhuoran/RWKU@b8a03b3",
    ),
    entry(
        "metric",
        "rwku_truthfulqa",
        "TruthfulQA MC1 and MC2",
        TRUTHFUL_QA,
        "metrics.rwku:TruthfulChoice",
        "code",
        "jinzhuoran/RWKU@b8a03b3",
    ),
    entry(
        "metric",
        "knowundo_unlearn",
        "KnowUnDo unlearn success",
        KNOWUNDO,
        "metrics.knowundo:UnlearnSuccess",
        "code",
        "zjunlp/KnowUnDo@92aea2b",
    ),
    entry(
        "metric",
        "knowundo_retention",
        "KnowUnDo retention success",
        KNOWUNDO,
        "metrics.knowundo:RetentionSuccess",
        "code",
        "zjunlp/KnowUnDo@92aea2b",
    ),
    entry(
        "metric",
        "answer_perplexity",
        "Perplexity of answers",
        KNOWUNDO,
        "metrics.fluency:AnswerPerplexity",
        "code",
        "zjunlp/KnowUnDo@92aea2b",
    ),
    entry(
        "metric",
        "ngram_entropy",
        "Weighted n-gram entropy",
        ROME,
        "metrics.ngram_entropy:NgramEntropy",
        "code",
        "jinzhuoran/RWKU@b8a03b3",
    ),
    entry(
        "metric",
        "gibberish_fluency",
        "Classifier fluency",
        OPEN_UNLEARNING,
        "metrics.fluency:ClassifierFluency",
        "code",
        "laws only",
    ),
    entry(
        "metric",
        "token_entropy",
        "Token entropy",
        CLOSER_LOOK,
        "metrics.closer_look:TokenEntropy",
        "code",
        "sail-sg/closer-look-LLM-unlearning@b622294",
    ),
    entry(
        "metric",
        "cosine_similarity",
        "Cosine similarity of texts",
        CLOSER_LOOK,
        "metrics.closer_look:CosineSimilarity",
        "code",
        "sail-sg/closer-look-LLM-unlearning@b622294",
    ),
    entry(
        "metric",
        "entailment_score",
        "Entailment score",
        CLOSER_LOOK,
        "metrics.closer_look:EntailmentScore",
        "code",
        "sail-sg/closer-look-LLM-unlearning@b622294",
    ),
    entry(
        "metric",
        "closer_look_utility",
        "Model utility of 18 numbers",
        CLOSER_LOOK,
        "metrics.closer_look:CloserLookUtility",
        "code",
        "sail-sg/closer-look-LLM-unlearning@b622294",
    ),
    entry(
        "metric",
        "forget_efficacy",
        "Forget efficacy",
        CLOSER_LOOK,
        "metrics.closer_look:ForgetEfficacy",
        "code",
        "sail-sg/closer-look-LLM-unlearning@b622294",
    ),
    entry(
        "metric",
        "truth_of_losses",
        "Truth ratio of losses (SEPS)",
        SEPS,
        "metrics.closer_look:TruthOfLosses",
        "code",
        "AI-ISL/SEPS@2d36ecf",
    ),
    entry("metric", "fit_fd", "Forget degree", FIT, "metrics.forget_degree:ForgetDegree", "code", "laws only"),
    entry("metric", "fit_ru", "Retain utility", FIT, "metrics.forget_degree:RetainUtility", "code", "laws only"),
    entry(
        "metric",
        "klom",
        "KL divergence of margins (KLoM)",
        KLOM,
        "metrics.klom:KLoM",
        "code",
        "RoyRin/data-unlearning-bench@eb261f9",
    ),
    entry(
        "metric",
        "aus",
        "Adaptive unlearning score",
        DUCK,
        "metrics.aus:AdaptiveUnlearningScore",
        "code",
        "OcraM17/DUCK@0961e3a",
    ),
    entry("metric", "nomus", "NoMUS", MUFAC, "metrics.nomus:NoMUS", "code", "45 published scores"),
    entry(
        "procedure",
        "mia_lr_loss",
        "Membership attack by logistic regression on losses",
        MUFAC,
        "metrics.nomus:loss_attack_accuracy",
        "code",
        "scikit-learn's regression",
    ),
    entry(
        "metric", "linear_cka", "Linear CKA", KIM, "metrics.similarity:LinearCKA", "code", "yongwookim1/UUEF@3e65d87"
    ),
    entry(
        "metric",
        "cka_erasure",
        "CKA erasure score",
        UDS,
        "metrics.similarity:ErasureScore",
        "code",
        "gnueaj/unlearning-depth-score@fc31639",
    ),
    entry(
        "metric",
        "approx_retrain_perplexity",
        "Approximate retraining: perplexity",
        PRE,
        "metrics.approximate_retraining:DocumentPerplexity",
        "code",
        "laws only",
    ),
    entry(
        "metric",
        "approx_retrain_accuracy",
        "Approximate retraining: accuracy",
        PRE,
        "metrics.approximate_retraining:DocumentAccuracy",
        "code",
        "laws only",
    ),
    entry(
        "metric",
        "approx_retrain_mia",
        "Approximate retraining: Min-K against unseen documents",
        PRE,
        "metrics.approximate_retraining:UnseenAttack",
        "code",
        "laws only",
    ),
    entry(
        "metric",
        "leaderboard_aggregate",
        "OpenUnlearning ranking (memorization, privacy, utility)",
        OPEN_UNLEARNING,
        "metrics.leaderboard:Leaderboard",
        "reimpl",
        "gnueaj/unlearning-depth-score@fc31639",
    ),
    entry(
        "metric",
        "leaderboard_memorization",
        "OpenUnlearning memorization pillar",
        OPEN_UNLEARNING,
        "metrics.leaderboard:Memorization",
        "reimpl",
        "gnueaj/unlearning-depth-score@fc31639",
    ),
    entry(
        "metric",
        "paraphrase_probability",
        "Probability of paraphrased answers",
        OPEN_UNLEARNING,
        "metrics.leaderboard:ParaphraseProbability",
        "reimpl",
        "gnueaj/unlearning-depth-score@fc31639",
    ),
    entry("metric", "blur_eval", "BLUR combined queries", BLUR, "metrics.blur:Blur", "code", "laws only"),
    entry("metric", "blur_fluency", "BLUR fluency", BLUR, "metrics.blur:OriginalFluency", "code", "laws only"),
    entry(
        "meta_evaluation",
        "metric_faithfulness",
        "Faithfulness of a metric",
        OPEN_UNLEARNING,
        "metrics.faithfulness:faithfulness",
        "reimpl",
        "gnueaj/unlearning-depth-score@fc31639",
    ),
    entry(
        "meta_evaluation",
        "metric_robustness",
        "Robustness of a metric (relearning, quantization)",
        OPEN_UNLEARNING,
        "metrics.robustness:metric_robustness",
        "reimpl",
        "gnueaj/unlearning-depth-score@fc31639",
    ),
    entry(
        "meta_evaluation",
        "e2lm_score",
        "E2LM score",
        E2LM,
        "metrics.e2lm:e2lm_score",
        "reconstructed",
        "tatami-galaxy/e2lm-cruise@f351d1c (signal quality)",
    ),
    entry(
        "meta_evaluation",
        "benchmark_squared",
        "Benchmark² (CBRC, DS, CAD, BQS)",
        BENCHMARK_SQUARED,
        "metrics.benchmark_squared:benchmark_quality",
        "reimpl",
        "laws, one fixture of DS",
    ),
    entry(
        "procedure",
        "bento",
        "BenTo task reduction",
        BENTO,
        "metrics.bento:greedy_tasks",
        "code",
        "tianyi-lab/BenTo@8aeb758, submodlib 0.0.3",
    ),
    entry(
        "metric",
        "widedeep_judge",
        "WideDeep judge",
        WIDEDEEP,
        "metrics.widedeep:WideDeepPreference",
        "code",
        "AlibabaResearch/DAMO-ConvAI@483554e",
    ),
    entry(
        "procedure",
        "paired_comparison",
        "Paired comparison of two models",
        PAIRED,
        "metrics.paired:compare_paired",
        "paper",
        "scipy 1.17.1",
    ),
    entry(
        "procedure",
        "uwc_calibration",
        "Unlearning with control: calibration by mixing (UWC)",
        UWC,
        "procedures.calibration:calibrate",
        "reconstructed",
        "laws only",
    ),
    entry(
        "procedure",
        "retrain_equivalence",
        "Path dependence of unlearning",
        IMPOSSIBLE,
        "procedures.retrain_equivalence:path_dependence",
        "code",
        "the theorem's bound on random problems",
    ),
    entry(
        "metric",
        "deep_unlearning",
        "Deep unlearning: recall, accuracy, Success-DU",
        DEEP_UNLEARNING,
        "metrics.deep_unlearning:DeepUnlearning",
        "code",
        "wrh14/deep_unlearning@a3c4ccb",
    ),
    entry(
        "metric",
        "gone_efficacy",
        "GONE unlearning efficacy",
        GONE,
        "metrics.gone:UnlearningEfficacy",
        "reconstructed",
        "laws only",
    ),
    entry(
        "metric",
        "gone_leakage",
        "GONE reasoning leakage",
        GONE,
        "metrics.gone:ReasoningLeakage",
        "reconstructed",
        "laws only",
    ),
    entry(
        "metric",
        "gone_locality",
        "GONE locality and generality",
        GONE,
        "metrics.gone:Locality",
        "reconstructed",
        "laws only",
    ),
    entry(
        "metric",
        "familiarity",
        "Familiarity of completions",
        WHP,
        "metrics.familiarity:Familiarity",
        "code",
        "worked numbers",
    ),
    entry(
        "metric",
        "seps",
        "SEPS separability in mixed prompts",
        SEPS,
        "metrics.seps:Seps",
        "code",
        "AI-ISL/SEPS@2d36ecf (ten scores; the scalar is ours)",
    ),
    entry(
        "metric",
        "semeval_task_aggregate",
        "LUME task aggregate",
        SEMEVAL,
        "metrics.semeval:TaskAggregate",
        "reimpl",
        "ArjunDosajh/Mr.Snuffleupagus-SemEval-2025-Task-4@116bf41",
    ),
    entry(
        "metric",
        "semeval2025_task4",
        "SemEval-2025 Task 4 final score",
        SEMEVAL,
        "metrics.semeval:SemEvalScore",
        "reimpl",
        "ArjunDosajh/Mr.Snuffleupagus-SemEval-2025-Task-4@116bf41, six published rows",
    ),
    entry(
        "procedure",
        "conceptvectors_intrinsic",
        "ConceptVectors intrinsic metrics",
        CONCEPT_VECTORS,
        "metrics.conceptvectors:concept_trace",
        "code",
        "yihuaihong/ConceptVectors@607591b",
    ),
    entry(
        "metric",
        "conceptvectors_behaviour",
        "ConceptVectors behaviour",
        CONCEPT_VECTORS,
        "metrics.conceptvectors:ConceptBehaviour",
        "code",
        "yihuaihong/ConceptVectors@607591b, nltk 3.10.4",
    ),
    entry(
        "procedure",
        "gradnorm",
        "Gradient-norm membership attack",
        OPEN_UNLEARNING,
        "procedures.gradient_norm:gradient_norm",
        "code",
        "plain autograd",
    ),
    entry(
        "procedure",
        "mrd",
        "Memory removal difficulty",
        MRD,
        "procedures.removal_difficulty:removal_difficulty",
        "paper",
        "laws only",
    ),
    entry(
        "procedure",
        "g_effect",
        "G-effect",
        G_EFFECT,
        "procedures.g_effect:g_effect",
        "code",
        "tmlr-group/G-effect@ef368ee",
    ),
    entry(
        "procedure",
        "unlearning_depth_score",
        "Unlearning depth score (UDS)",
        UDS,
        "procedures.unlearning_depth:unlearning_depth",
        "code",
        "plain hooks",
    ),
    entry(
        "edit",
        "quantization",
        "Quantization (RTN, FP4, NF4, int8, GPTQ)",
        QUANTIZATION,
        "edits.quantization:quantize_model",
        "code",
        "bitsandbytes 0.50.2, IST-DASLab/gptq@2d65066",
    ),
    entry(
        "decoding",
        "offset_unlearning",
        "Offset unlearning (delta-unlearning)",
        OFFSET,
        "decoding.offset_unlearning:offset_unlearning",
        "reimpl",
        "UCSB-NLP-Chang/ULD@858608c",
    ),
    entry(
        "decoding",
        "whp_logits",
        "Who's Harry Potter logit combination",
        WHP,
        "decoding.logit_arithmetic:generic_logits",
        "code",
        "swj0419/muse_bench@fcd6651",
    ),
    entry(
        "decoding",
        "contrastive_decoding",
        "Contrastive decoding",
        CONTRASTIVE,
        "decoding.logit_arithmetic:contrastive_scores",
        "code",
        "XiangLi1999/ContrastiveDecoding@170e914",
    ),
    entry(
        "metric",
        "item_scores",
        "Mean score of benchmark items",
        LIVEBENCH,
        "scorers.item:ItemScores",
        "code",
        "LiveBench/LiveBench@b0fb577 (aggregation)",
    ),
    entry(
        "scorer",
        "jeebench",
        "JEEBench",
        JEEBENCH,
        "scorers.jeebench:score_jeebench",
        "code",
        "dair-iitd/jeebench@a9af8bf",
    ),
    entry(
        "scorer",
        "livebench",
        "LiveBench",
        LIVEBENCH,
        "scorers.livebench:score_livebench",
        "code",
        "LiveBench/LiveBench@b0fb577",
    ),
    entry(
        "scorer", "newterm", "NewTerm", NEWTERM, "scorers.newterm:newterm_score", "code", "hexuandeng/NewTerm@1acc3f0"
    ),
    entry("scorer", "hle", "Humanity's Last Exam", HLE, "scorers.hle:hle_score", "paper", "laws only"),
    entry(
        "scorer",
        "evoeval",
        "EvoEval pass@k",
        EVOEVAL,
        "scorers.code_execution:code_score",
        "code",
        "evo-eval/evoeval@d5ca310 (estimator)",
    ),
    entry(
        "scorer",
        "alpha_excel",
        "Alpha Excel",
        ALPHA_EXCEL,
        "scorers.alpha_excel:alpha_excel_score",
        "reconstructed",
        "laws only",
    ),
    entry(
        "scorer",
        "exact_answer",
        "Final numbers and short texts (GSM8K)",
        GSM8K,
        "scorers.exact_answer:score_exact_answer",
        "paper",
        "laws, and the patterns of lm-evaluation-harness 0.4.4",
    ),
    entry(
        "scorer",
        "memorybench",
        "MemoryBench aggregation",
        MEMORYBENCH,
        "scorers.memorybench:memorybench_score",
        "code",
        "laws only",
    ),
    entry(
        "procedure",
        "benchmark_card",
        "BenchmarkCards",
        BENCHMARK_CARDS,
        "scorers.benchmark_card:read_card",
        "code",
        "SokolAnn/BenchmarkCards@2ee1a80 (531 published cards)",
    ),
    entry(
        "metric",
        "letter_choice",
        "Multiple choice by letter",
        MMLU,
        "scorers.multiple_choice:LetterChoice",
        "paper",
        "laws only",
    ),
    entry(
        "metric",
        "cloze_choice",
        "Multiple choice by option text",
        GPT3,
        "scorers.multiple_choice:ClozeChoice",
        "paper",
        "laws only",
    ),
    entry(
        "procedure", "scales_pp", "Scales++", SCALES_PP, "scorers.item_selection:select_by_demand", "paper", "laws only"
    ),
    entry(
        "procedure",
        "active_eval_acquisition",
        "Active evaluation acquisition",
        ACTIVE,
        "scorers.item_selection:fit_two_pl",
        "reconstructed",
        "laws only",
    ),
    entry(
        "metric",
        "extraction_likelihood",
        "Extraction likelihood (EL)",
        JANG,
        "metrics.extraction_likelihood:ExtractionLikelihood",
        "code",
        "joeljang/knowledge-unlearning@732876d",
    ),
    entry(
        "metric",
        "memorization_accuracy",
        "Memorization accuracy (MA)",
        JANG,
        "metrics.extraction_likelihood:MemorizationAccuracy",
        "code",
        "joeljang/knowledge-unlearning@732876d",
    ),
    entry(
        "metric",
        "sensitive_extraction_likelihood",
        "Sensitive extraction likelihood (S-EL)",
        SEUL,
        "metrics.extraction_likelihood:SensitiveExtractionLikelihood",
        "reconstructed",
        "laws only",
    ),
    entry(
        "metric",
        "sensitive_memorization_accuracy",
        "Sensitive memorization accuracy (S-MA)",
        SEUL,
        "metrics.extraction_likelihood:SensitiveMemorizationAccuracy",
        "reconstructed",
        "laws only",
    ),
    entry("metric", "memo", "MEMO", MEOW, "metrics.memo:Memo", "code", "Carol-gutianle/MEOW@1ee8aef"),
    entry(
        "metric", "leak_at_k", "Leak@k", LEAK_AT_K, "metrics.leak_at_k:LeakAtK", "code", "OptimAI-Lab/Leak-k@a1c3db8"
    ),
    entry(
        "metric",
        "waterdrum",
        "WaterDrum",
        WATERDRUM,
        "metrics.waterdrum:WaterDrum",
        "code",
        "aoi3142/Waterfall@cb57b70, lululu008/WaterDrum@f3d77e8",
    ),
    entry("metric", "dcue", "DCUE", DCUE, "metrics.dcue:DCUE", "reconstructed", "laws only"),
    entry("metric", "fade", "FADE", FADE, "metrics.fade:Fade", "reconstructed", "laws only"),
    # --- decoding -------------------------------------------------------------------------------------------------
    entry(
        "decoding",
        "uld",
        "Unlearning from logit difference (ULD)",
        ULD,
        "decoding.uld:uld",
        "code",
        "UCSB-NLP-Chang/ULD@858608c",
    ),
    entry(
        "decoding",
        "ucd",
        "Unlearning by contrastive decoding (UCD)",
        UCD,
        "decoding.ucd:ucd",
        "reconstructed",
        "laws only",
    ),
    entry("decoding", "icul", "In-context unlearning (ICUL)", ICUL, "decoding.icul:icul", "code", "laws only"),
    entry(
        "decoding",
        "guard_generation",
        "GUARD, restricted generation",
        GUARD_GENERATION,
        "decoding.guard_generation:Guard",
        "reconstructed",
        "laws only",
    ),
    entry(
        "decoding",
        "eco_prompts",
        "Embedding-corrupted prompts (ECO)",
        ECO,
        "decoding.eco_prompts:CorruptedPrompts",
        "code",
        "laws only",
    ),
    entry(
        "decoding",
        "guardrail_prefix",
        "Guardrail: instruction",
        GUARDRAILS,
        "decoding.guardrail_baselines:prefix",
        "reconstructed",
        "laws only",
    ),
    entry(
        "decoding",
        "guardrail_input",
        "Guardrail: input filter",
        GUARDRAILS,
        "decoding.guardrail_baselines:InputFilter",
        "reconstructed",
        "laws only",
    ),
    entry(
        "decoding",
        "guardrail_output",
        "Guardrail: output filter",
        GUARDRAILS,
        "decoding.guardrail_baselines:OutputFilter",
        "reconstructed",
        "laws only",
    ),
    entry(
        "decoding",
        "alu_agents",
        "Agentic unlearning (ALU)",
        ALU,
        "decoding.alu_agents:Agents",
        "reconstructed",
        "laws only",
    ),
    # --- attacks --------------------------------------------------------------------------------------------------
    entry(
        "attack",
        "benign_relearning",
        "Benign relearning",
        JOG,
        "attacks.relearning:Relearning",
        "code",
        "laws only",
    ),
    entry("attack", "rtt", "Retraining on T (RTT)", RTT, "attacks.rtt:Retraining", "code", "laws only"),
    entry(
        "attack",
        "finetune_attack",
        "Few-shot fine-tuning sweep",
        LUCKI,
        "attacks.finetune_attack:FineTuning",
        "code",
        "laws only",
    ),
    entry(
        "attack",
        "quantization_attack",
        "Quantization of the unlearned model",
        QUANTIZATION,
        "attacks.quantization_attack:Quantizing",
        "code",
        "the quantizers, by edits/quantization",
    ),
    entry(
        "attack", "logit_lens", "Logit lens and tuned lens", LENS, "attacks.logit_lens:LogitLens", "code", "laws only"
    ),
    entry(
        "attack",
        "linear_probe",
        "Latent knowledge probe",
        EIGHT,
        "attacks.linear_probe:LinearProbe",
        "reconstructed",
        "laws only",
    ),
    entry(
        "attack",
        "class_probe",
        "Latent knowledge probe, for the answer",
        EIGHT,
        "attacks.linear_probe:ClassProbe",
        "reconstructed",
        "laws only",
    ),
    entry(
        "attack",
        "direction_ablation",
        "Direction ablation (orthogonalisation)",
        LUCKI,
        "attacks.direction_ablation:DirectionAblation",
        "code",
        "laws only",
    ),
    entry(
        "attack",
        "refusal_ablation",
        "Refusal direction ablation (abliteration)",
        ARDITI,
        "attacks.direction_ablation:RefusalAblation",
        "code",
        "laws only",
    ),
    entry(
        "attack",
        "set_difference_pruning",
        "Set-difference pruning",
        LUCKI,
        "attacks.set_difference_pruning:SetDifferencePruning",
        "code",
        "laws only",
    ),
    entry("attack", "gcg", "Greedy coordinate gradient (GCG)", GCG, "attacks.gcg:GCG", "reimpl", "laws only"),
    entry("attack", "dua", "Dynamic unlearning attack (DUA)", LAU, "attacks.dua:DUA", "paper", "laws only"),
    entry(
        "attack",
        "embedding_attack",
        "Embedding-space attack",
        SOFT_PROMPTS,
        "attacks.embedding_attack:EmbeddingAttack",
        "code",
        "laws only",
    ),
    entry(
        "attack",
        "enhanced_gcg",
        "Enhanced GCG (fluent universal prefix)",
        LUCKI,
        "attacks.enhanced_gcg:EnhancedGCG",
        "code",
        "laws only",
    ),
    entry(
        "attack",
        "naive_perturbation",
        "Prompt perturbation, naive",
        LUCKI,
        "attacks.prompt_perturbation:NaivePerturbation",
        "code",
        "laws only",
    ),
    entry(
        "attack",
        "informed_perturbation",
        "Prompt perturbation, informed",
        LUCKI,
        "attacks.prompt_perturbation:InformedPerturbation",
        "code",
        "laws only",
    ),
    entry(
        "attack",
        "few_shot",
        "Few-shot prompting",
        BLACK_BOX,
        "attacks.few_shot_rephrase:FewShot",
        "reimpl",
        "laws only",
    ),
    entry("attack", "rephrase", "Rephrasing", BLACK_BOX, "attacks.few_shot_rephrase:Rephrased", "reimpl", "laws only"),
    entry(
        "attack",
        "few_shot_letters",
        "Few-shot multiple choice, read by letter",
        BLACK_BOX,
        "attacks.few_shot_rephrase:Letters",
        "reimpl",
        "laws only",
    ),
    entry(
        "attack",
        "masking_alias_probe",
        "Masking, alias and scramble probes",
        OWN,
        "attacks.masking_alias:Unnamed",
        "reconstructed",
        "laws only",
    ),
    entry(
        "attack",
        "rwku_adversarial",
        "RWKU's nine adversarial probes",
        RWKU,
        "attacks.rwku_probes:Probed",
        "code",
        "the scores, by metrics/rwku",
    ),
    entry(
        "attack",
        "rwku_mia",
        "RWKU's membership inference",
        RWKU,
        "attacks.rwku_probes:Membership",
        "code",
        "the scores, by metrics/rwku",
    ),
    entry(
        "attack",
        "sampling",
        "Repeated sampling (Leak@k)",
        LEAK_AT_K,
        "attacks.sampling:Sampled",
        "code",
        "the estimator, by metrics/leak_at_k",
    ),
    entry(
        "attack",
        "worst_case_leakage",
        "Worst case over attacks",
        WORST_CASE,
        "attacks.worst_case:WorstCase",
        "code",
        "laws only",
    ),
    entry(
        "attack",
        "worst_case_judge",
        "Worst case over wordings (JensUn evaluation)",
        JENSUN,
        "attacks.worst_case:WorstWordings",
        "code",
        "laws only",
    ),
    entry("attack", "rebel", "REBEL, evolved prompts", REBEL, "attacks.rebel:Rebel", "code", "laws only"),
    entry(
        "attack",
        "unlearning_trace",
        "Unlearning trace detection",
        TRACE,
        "attacks.unlearning_trace:TextTrace",
        "code",
        "laws only",
    ),
    entry(
        "attack",
        "knowledge_holes",
        "Knowledge holes",
        HOLES,
        "attacks.knowledge_holes:KnowledgeHoles",
        "reconstructed",
        "laws only",
    ),
    entry(
        "attack",
        "unlearning_mirage",
        "Multi-hop and alias probes (Unlearning Mirage)",
        MIRAGE,
        "attacks.multi_hop:Probing",
        "code",
        "laws only",
    ),
    entry(
        "attack",
        "crosslingual",
        "Cross-lingual evaluation",
        CROSSLINGUAL,
        "attacks.crosslingual:Translated",
        "reconstructed",
        "laws only",
    ),
    entry(
        "attack",
        "benign_modifications",
        "Benign modifications of test queries",
        BENIGN,
        "attacks.benign_modifications:PairedQueries",
        "paper",
        "laws only",
    ),
    entry(
        "attack",
        "eight_methods",
        "Eight methods to evaluate robust unlearning",
        EIGHT,
        "attacks.eight_methods:EightMethods",
        "code",
        "laws only",
    ),
)
