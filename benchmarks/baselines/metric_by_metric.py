"""TOFU's suite the way it is usually evaluated: a pass per metric and data set, padded batches of 16, full logits.

The computation is that of the released evaluators (locuslab/tofu and locuslab/open-unlearning): batches in the order of
the file, right-padded to their longest row; logits [B, T, V] of every position; losses by a transposed, shifted
cross-entropy without reduction; whatever looks at single tokens takes the log-softmax of the whole tensor first and goes
through its rows in a loop. A metric that is made of others runs them, unless `Suite.reuse` says that what has been run on
a data set once is kept, which is what the newer of the two does for the parts of truth ratio and model utility.

All values are those of the library's metrics, which the benchmark checks.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from attrs import define, field
from scipy.stats import hmean, ks_2samp
from sklearn.metrics import roc_auc_score
from torch import Tensor
from transformers import PreTrainedModel

from baselines.common_way import collate, full_logits
from unlearnkit.batch import IGNORE, Row

BATCH = 16
Decode = Callable[[Sequence[int]], str]
"""Token ids to text."""


def batches(rows: Sequence[Row]) -> list[dict[str, Tensor]]:
    """Padded batches in the order of the file."""
    return [collate(rows[first : first + BATCH]) for first in range(0, len(rows), BATCH)]


@torch.no_grad()
def losses(model: PreTrainedModel, rows: Sequence[Row]) -> list[float]:
    """Mean negative log-prob of each row's answer tokens."""
    found: list[float] = []
    for batch in batches(rows):
        logits, labels = full_logits(model, batch)[:, :-1].contiguous(), batch["labels"][:, 1:].contiguous()
        each = F.cross_entropy(logits.transpose(-1, -2), labels, ignore_index=IGNORE, reduction="none")
        found += (each.sum(-1) / (labels != IGNORE).sum(-1)).tolist()
    return found


@torch.no_grad()
def vocabulary_log_probs(model: PreTrainedModel, rows: Sequence[Row]) -> list[tuple[Tensor, Tensor]]:
    """Log-probs of the whole vocabulary at each row's answer tokens but the last, [T, V], and their labels."""
    found = []
    for batch in batches(rows):
        log_probs = F.log_softmax(full_logits(model, batch).float(), dim=-1)[:, :-1]
        for of_row, labels in zip(log_probs, batch["labels"][:, 1:], strict=True):
            places = (labels != IGNORE).nonzero().flatten()[:-1]
            found.append((of_row[places], labels[places]))
    return found


def exact_memorization(model: PreTrainedModel, rows: Sequence[Row]) -> list[float]:
    found = []
    for batch in chunks(rows):
        for log_probs, labels in vocabulary_log_probs(model, batch):
            found.append(float((log_probs.argmax(-1) == labels).sum() / len(labels)))
    return found


def extraction_strength(model: PreTrainedModel, rows: Sequence[Row]) -> list[float]:
    found = []
    for batch in chunks(rows):
        for log_probs, labels in vocabulary_log_probs(model, batch):
            chosen = log_probs.argmax(-1)
            for k in range(len(labels)):
                if torch.equal(chosen[k:], labels[k:]):
                    break
            found.append(1 - k / len(labels))
    return found


def min_k(model: PreTrainedModel, rows: Sequence[Row], share: float = 0.4) -> list[float]:
    found = []
    for batch in chunks(rows):
        for log_probs, labels in vocabulary_log_probs(model, batch):
            of_labels = log_probs.gather(-1, labels[:, None])[:, 0].sort().values
            found.append(-float(of_labels[: max(1, int(len(labels) * share))].mean()))
    return found


def min_k_plus_plus(model: PreTrainedModel, rows: Sequence[Row], share: float = 0.4) -> list[float]:
    found = []
    for batch in chunks(rows):
        for log_probs, labels in vocabulary_log_probs(model, batch):
            probs = log_probs.exp()
            mean = (probs * log_probs).sum(-1)
            variance = (probs * log_probs.square()).sum(-1) - mean.square()
            of_labels = log_probs.gather(-1, labels[:, None])[:, 0]
            scores = ((of_labels - mean) / variance.clamp(min=1e-6).sqrt()).sort().values
            found.append(-float(scores[: max(1, int(len(labels) * share))].mean()))
    return found


def confidence(model: PreTrainedModel, rows: Sequence[Row]) -> list[float]:
    """Mean probability of each row's answer tokens."""
    found: list[float] = []
    for batch in batches(rows):
        with torch.no_grad():
            probs = F.softmax(full_logits(model, batch).float(), dim=-1)[:, :-1]
        for of_row, labels in zip(probs, batch["labels"][:, 1:], strict=True):
            places = (labels != IGNORE).nonzero().flatten()
            found.append(float(of_row[places].gather(-1, labels[places][:, None]).mean()))
    return found


def chunks(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """A batch at a time, so that no more than one batch of log-probs is held."""
    return [rows[first : first + BATCH] for first in range(0, len(rows), BATCH)]


@define
class Suite:
    """All of TOFU's teacher-forced metrics of one model.

    Attributes:
        model: that is measured.
        data: rows by role.
        oracle: recorded losses of the oracle by role, in the order of the rows, and its AUCs by attack.
        decode: token ids to text.
        reuse: whether losses of a data set are kept for the other metrics that are made of them.
        passes: rows that went through the model so far.
    """

    model: PreTrainedModel
    data: Mapping[str, Sequence[Row]]
    oracle: Mapping[str, Sequence[float]]
    oracle_aucs: Mapping[str, float]
    decode: Decode
    reuse: bool
    passes: int = 0
    _kept: dict[str, list[float]] = field(factory=dict)

    def losses(self, role: str) -> list[float]:
        if role not in self._kept or not self.reuse:
            self._kept[role] = losses(self.model, self.data[role])
            self.passes += len(self.data[role])
        return self._kept[role]

    def probability(self, role: str) -> float:
        return statistics.mean(math.exp(-loss) for loss in self.losses(role))

    def by_question(self, role: str) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for row, loss in zip(self.data[role], self.losses(role), strict=True):
            found.setdefault(row.group, []).append(loss)
        return found

    def truth_ratios(self, correct: str, wrong: str) -> list[float]:
        right, other = self.by_question(correct), self.by_question(wrong)
        return [math.exp(statistics.mean(right[name]) - statistics.mean(other[name])) for name in right]

    def probability_mc(self, role: str) -> float:
        right, other = self.by_question(role), self.by_question(f"{role}_perturbed")
        return statistics.mean(
            math.exp(-right[name][0]) / (math.exp(-right[name][0]) + sum(math.exp(-loss) for loss in other[name]))
            for name in right
        )

    def per_token(self, role: str, of: Callable[[PreTrainedModel, Sequence[Row]], list[float]]) -> list[float]:
        self.passes += len(self.data[role])
        return of(self.model, self.data[role])

    def attack(self, name: str) -> float:
        scores = [self.attack_scores(name, role) for role in ("forget", "holdout")]
        return float(roc_auc_score([0] * len(scores[0]) + [1] * len(scores[1]), scores[0] + scores[1]))

    def attack_scores(self, name: str, role: str) -> list[float]:
        rows = self.data[role]
        if name == "mia_loss":
            return self.losses(role)
        if name == "mia_reference":
            return [loss - other for loss, other in zip(self.losses(role), self.oracle[role], strict=True)]
        if name == "mia_zlib":
            texts = [self.decode(row.labels[row.labels != IGNORE].tolist()).strip() for row in rows]
            sizes = [len(zlib.compress(text.encode())) for text in texts]
            return [loss / size for loss, size in zip(self.losses(role), sizes, strict=True)]
        return self.per_token(role, min_k if name == "mia_min_k" else min_k_plus_plus)

    def forget_ratios(self) -> list[float]:
        return self.truth_ratios("forget_paraphrased", "forget_perturbed")

    def run(self) -> dict[str, float]:
        """Every metric by name."""
        found = {
            "forget_probability": self.probability("forget"),
            "forget_paraphrased_probability": self.probability("forget_paraphrased"),
            "forget_truth_ratio": statistics.mean(min(one, 1 / one) for one in self.forget_ratios()),
            "exact_memorization": statistics.mean(self.per_token("forget", exact_memorization)),
            "extraction_strength": statistics.mean(self.per_token("forget", extraction_strength)),
            "forget_confidence": statistics.mean(self.per_token("forget", confidence)),
        }
        paraphrased, perturbed = (self.oracle[f"forget_{kind}"] for kind in ("paraphrased", "perturbed"))
        several = len(perturbed) // len(paraphrased)
        of_oracle = [
            math.exp(right - statistics.mean(perturbed[several * place : several * (place + 1)]))
            for place, right in enumerate(paraphrased)
        ]
        found["forget_quality"] = float(ks_2samp(self.forget_ratios(), of_oracle).pvalue)
        for name in ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus", "mia_reference"):
            found[name] = self.attack(name)
        found["privleak"] = 100 * (
            (1 - self.attack_again("mia_min_k", found)) / (1 - self.oracle_aucs["mia_min_k"]) - 1
        )
        utility = {"retain_probability": self.probability("retain")}
        ratios = self.truth_ratios("retain_paraphrased", "retain_perturbed")
        utility["retain_truth_ratio"] = statistics.mean(max(0.0, 1 - one) for one in ratios)
        for role in ("real_authors", "world_facts"):
            utility[f"{role}_probability"] = self.probability_mc(role)
            ratios = self.truth_ratios(role, f"{role}_perturbed")
            utility[f"{role}_truth_ratio"] = statistics.mean(max(0.0, 1 - one) for one in ratios)
        found |= utility
        found["teacher_forced_utility"] = float(hmean(list(utility.values()))) if min(utility.values()) > 0 else 0.0
        return found

    def attack_again(self, name: str, found: Mapping[str, float]) -> float:
        return found[name] if self.reuse else self.attack(name)
