"""What is built: one row per method and metric, with its paper, its place, and what its numbers were checked against.

A plain tuple, read by the command line, the documentation and the tests. Nothing registers itself, and importing this
module imports none of the methods: `load` does.
"""

from __future__ import annotations

from importlib import import_module
from typing import Literal, get_args

from attrs import field, frozen
from attrs.validators import in_, matches_re, optional

Kind = Literal["objective", "metric", "decoding"]
"""A loss to train on, a number to report, or a model that unlearns while it decodes."""

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
        verified: what its numbers were compared with.
    """

    key: str = field(validator=matches_re(r"[a-z][a-z0-9_]*"))
    name: str
    kind: Kind = field(validator=in_(get_args(Kind)))
    paper: str
    year: int
    arxiv: str | None = field(validator=optional(matches_re(r"\d{4}\.\d{5}")))
    where: str = field(validator=matches_re(r"unlearnkit(\.\w+)+:\w+"))
    confidence: Confidence = field(validator=in_(get_args(Confidence)))
    verified: str


def load(entry: Entry) -> object:
    """Import what an entry describes."""
    module, name = entry.where.split(":")
    found: object = getattr(import_module(module), name)
    return found


CATALOG: tuple[Entry, ...] = (
    # --- objectives -----------------------------------------------------------------------------------------------
    Entry(
        key="retain_nll",
        name="Fine-tuning, retain cross-entropy (RT, GD, GDR)",
        kind="objective",
        paper="Maini et al., TOFU, COLM 2024",
        year=2024,
        arxiv="2401.06121",
        where="unlearnkit.objectives.cross_entropy:CrossEntropy",
        confidence="code",
        verified="locuslab/open-unlearning@d3d7cf9, sheepjun0330/wmdp-main@a3972fb",
    ),
    Entry(
        key="retain_kl",
        name="Retain KL divergence (KL, KLR)",
        kind="objective",
        paper="Maini et al., TOFU, COLM 2024",
        year=2024,
        arxiv="2401.06121",
        where="unlearnkit.objectives.retain_kl:RetainKL",
        confidence="code",
        verified="locuslab/open-unlearning@d3d7cf9, licong-lin/negative-preference-optimization@1207bbe",
    ),
    Entry(
        key="ga",
        name="Gradient ascent (GA)",
        kind="objective",
        paper="Jang et al., Knowledge Unlearning for Mitigating Privacy Risks, ACL 2023",
        year=2023,
        arxiv="2210.01504",
        where="unlearnkit.objectives.gradient_ascent:GradientAscent",
        confidence="code",
        verified="locuslab/tofu@bdc209e, locuslab/open-unlearning@d3d7cf9 and five more",
    ),
    Entry(
        key="grad_diff",
        name="Gradient difference (GradDiff, GA+GD)",
        kind="objective",
        paper="Liu, Liu, Stone, Continual Learning and Private Unlearning, CoLLAs 2022",
        year=2022,
        arxiv="2203.12817",
        where="unlearnkit.objectives.grad_diff:GradDiff",
        confidence="code",
        verified="locuslab/tofu@bdc209e, sail-sg/closer-look-LLM-unlearning@b622294 and six more",
    ),
    Entry(
        key="ga_kl",
        name="GA with KL minimisation",
        kind="objective",
        paper="Maini et al., TOFU, COLM 2024",
        year=2024,
        arxiv="2401.06121",
        where="unlearnkit.objectives.ga_kl:GradientAscentKL",
        confidence="code",
        verified="locuslab/tofu@bdc209e, licong-lin/negative-preference-optimization@1207bbe and five more",
    ),
    Entry(
        key="idk_nll",
        name="IDK fine-tuning (IdkNLL)",
        kind="objective",
        paper="Maini et al., TOFU, COLM 2024",
        year=2024,
        arxiv="2401.06121",
        where="unlearnkit.objectives.idk:IdkNLL",
        confidence="code",
        verified="locuslab/tofu@bdc209e, sail-sg/closer-look-LLM-unlearning@b622294 and three more",
    ),
    Entry(
        key="dpo_idk",
        name="DPO towards refusals or alternate answers (IdkDPO, AltPO)",
        kind="objective",
        paper="Zhang, Lin, Bai, Mei, NPO, COLM 2024",
        year=2024,
        arxiv="2404.05868",
        where="unlearnkit.objectives.dpo:DPO",
        confidence="code",
        verified="licong-lin/negative-preference-optimization@1207bbe, locuslab/open-unlearning@d3d7cf9 and three more",
    ),
    Entry(
        key="npo",
        name="Negative preference optimization (NPO)",
        kind="objective",
        paper="Zhang, Lin, Bai, Mei, NPO, COLM 2024",
        year=2024,
        arxiv="2404.05868",
        where="unlearnkit.objectives.npo:NPO",
        confidence="code",
        verified="licong-lin/negative-preference-optimization@1207bbe, locuslab/open-unlearning@d3d7cf9 and six more",
    ),
    Entry(
        key="simnpo",
        name="SimNPO",
        kind="objective",
        paper="Fan et al., Simplicity Prevails, NeurIPS 2025",
        year=2025,
        arxiv="2410.07163",
        where="unlearnkit.objectives.simnpo:SimNPO",
        confidence="code",
        verified="OPTML-Group/Unlearn-Simple@f1a355d, locuslab/open-unlearning@d3d7cf9 and one more",
    ),
    Entry(
        key="rmu",
        name="Representation misdirection for unlearning (RMU)",
        kind="objective",
        paper="Li et al., The WMDP Benchmark, ICML 2024",
        year=2024,
        arxiv="2403.03218",
        where="unlearnkit.objectives.rmu:RMU",
        confidence="code",
        verified="sheepjun0330/wmdp-main@a3972fb, a fork that keeps the official loss",
    ),
    Entry(
        key="uniform_kl",
        name="KL from uniform (the assistant of ULD)",
        kind="objective",
        paper="Ji et al., Reversing the Forget-Retain Objectives, NeurIPS 2024",
        year=2024,
        arxiv="2406.08607",
        where="unlearnkit.objectives.uniform_kl:UniformKL",
        confidence="code",
        verified="UCSB-NLP-Chang/ULD@858608c",
    ),
    # --- metrics --------------------------------------------------------------------------------------------------
    Entry(
        key="probability",
        name="Answer probability",
        kind="metric",
        paper="Maini et al., TOFU, COLM 2024",
        year=2024,
        arxiv="2401.06121",
        where="unlearnkit.metrics.probability:Probability",
        confidence="code",
        verified="locuslab/open-unlearning@d3d7cf9, recorded logs of locuslab/tofu@bdc209e",
    ),
    Entry(
        key="probability_mc",
        name="Answer probability against wrong options",
        kind="metric",
        paper="Maini et al., TOFU, COLM 2024",
        year=2024,
        arxiv="2401.06121",
        where="unlearnkit.metrics.probability:ProbabilityMC",
        confidence="code",
        verified="recorded logs of locuslab/tofu@bdc209e",
    ),
    Entry(
        key="truth_ratio",
        name="Truth ratio",
        kind="metric",
        paper="Maini et al., TOFU, COLM 2024",
        year=2024,
        arxiv="2401.06121",
        where="unlearnkit.metrics.truth_ratio:TruthRatio",
        confidence="code",
        verified="recorded logs of locuslab/tofu@bdc209e",
    ),
    Entry(
        key="rouge",
        name="ROUGE",
        kind="metric",
        paper="Lin, ROUGE, Text Summarization Branches Out 2004",
        year=2004,
        arxiv=None,
        where="unlearnkit.metrics.rouge:Rouge",
        confidence="code",
        verified="Google's rouge_score 0.1.2, recorded logs of locuslab/tofu@bdc209e",
    ),
    Entry(
        key="tofu_model_utility",
        name="Model utility",
        kind="metric",
        paper="Maini et al., TOFU, COLM 2024",
        year=2024,
        arxiv="2401.06121",
        where="unlearnkit.metrics.model_utility:ModelUtility",
        confidence="code",
        verified="recorded logs of locuslab/tofu@bdc209e",
    ),
    Entry(
        key="tofu_forget_quality",
        name="Forget quality",
        kind="metric",
        paper="Maini et al., TOFU, COLM 2024",
        year=2024,
        arxiv="2401.06121",
        where="unlearnkit.metrics.forget_quality:ForgetQuality",
        confidence="code",
        verified="recorded logs of locuslab/tofu@bdc209e",
    ),
    Entry(
        key="exact_memorization",
        name="Exact memorization (EM)",
        kind="metric",
        paper="Tirumala et al., Memorization Without Overfitting, NeurIPS 2022",
        year=2022,
        arxiv="2205.10770",
        where="unlearnkit.metrics.memorization:ExactMemorization",
        confidence="code",
        verified="locuslab/open-unlearning@d3d7cf9",
    ),
    Entry(
        key="extraction_strength",
        name="Extraction strength (ES)",
        kind="metric",
        paper="Carlini et al., Extracting Training Data from Large Language Models, USENIX Security 2021",
        year=2021,
        arxiv="2012.07805",
        where="unlearnkit.metrics.memorization:ExtractionStrength",
        confidence="code",
        verified="locuslab/open-unlearning@d3d7cf9",
    ),
    # --- decoding -------------------------------------------------------------------------------------------------
    Entry(
        key="uld",
        name="Unlearning from logit difference (ULD)",
        kind="decoding",
        paper="Ji et al., Reversing the Forget-Retain Objectives, NeurIPS 2024",
        year=2024,
        arxiv="2406.08607",
        where="unlearnkit.decoding.uld:LogitDifference",
        confidence="code",
        verified="UCSB-NLP-Chang/ULD@858608c",
    ),
)
