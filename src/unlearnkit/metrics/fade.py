r"""FADE: does the model write what the retrained oracle would write, and the oracle what the model would?

With l_m(y|x) the log-likelihood of a sampled answer y under model m, the end token included:

    a(x) = mean over y of the model   of  (l_model(y|x) - l_oracle(y|x)) / |y|     does the oracle accept what it says?
    b(x) = mean over y of the oracle  of  (l_oracle(y|x) - l_model(y|x)) / |y|     does it say what the oracle says?
    FADE = mean over prompts of  (|a(x)| + |b(x)|) / 2

In nats per token, >= 0; 0 for equal models, and lower is closer to the oracle. Without |y| and absolute values, a and b
estimate KL(model || oracle) and KL(oracle || model) per answer; `jeffreys` is the mean of their sum. High values come
from knowledge that is left as well as from damage: the score says that models differ, a and b on which side. No
reference answer is involved.

It needs both models' samples for each prompt (temperature 1, whole distribution, say 10 of up to 200 tokens), turned
into rows by `sample_rows`, and both models' label log-probs on both sets of rows. With another temperature a and b are
no KL estimates. Of few samples a and b are noisy, and the absolute value keeps FADE above 0 even for nearly equal
models.

Paper: Cho, Hwang, Sala, Hwang, Cho, Cha. Reference-Specific Unlearning Metrics Can Hide the Truth: A Reality Check.
2025, arXiv:2510.12981.

Checked: laws only; no code was public.

Reconstructed. The paper's: likelihoods compared in both directions, each on the samples of one model. Ours: the
absolute values and their mean, the division by the length, the number of samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import evolve, field, frozen
from torch import Tensor

from unlearnkit.batch import IGNORE, Row
from unlearnkit.errors import DataError
from unlearnkit.protocols import Continuations, Flat, Needs, Sampling, Score, Seen, Tokens
from unlearnkit.statistics import LabelLogProb


def likelihood_gaps(
    writer_log_probs: Tensor, other_log_probs: Tensor, row: Tensor, *, rows: int, per_token: bool = True
) -> Tensor:
    """How much likelier each answer is to the model that wrote it than to the other: flat [N], [N], [N] -> [rows].

    Args:
        writer_log_probs: [N] log-probs of answer tokens under the model that wrote them, in nats.
        other_log_probs: [N] the same under the other model.
        row: [N] int64, the answer each token belongs to.
        rows: number of answers; one without tokens is nan.
        per_token: whether an answer's gap is divided by its length.

    float64, in nats; inf where the other model gives an answer no probability.
    """
    gap = writer_log_probs.double() - other_log_probs.double()
    total = gap.new_zeros(rows).index_add(0, row, gap)
    length = gap.new_zeros(rows).index_add(0, row, torch.ones_like(gap))
    return total / (length if per_token else length.clamp(max=1))  # 0/0 = nan


def sample_rows(
    prompts: Sequence[Row], written: Continuations, decoding: Sampling, *, role: str, end_token: int
) -> tuple[Row, ...]:
    """What a model wrote, as rows to be scored: one per sample, of the group of its prompt's id.

    Ids are "id@0", "id@1" …. The end token is added to every sample shorter than `decoding.max_new_tokens`: longer ones
    were cut, and the model has not ended them.

    Args:
        prompts: the rows that samples were generated for, in the order of `written`.
        written: samples with their token ids, of one model.
        decoding: how they were drawn, without stop strings.
        role: of the rows; one for each model that wrote.
        end_token: the id that ends an answer.

    Raises:
        DataError: ids are not known, there are stop strings, or prompts and samples do not match.
    """
    if decoding.stop:
        raise DataError(
            f"decoding has stop strings {decoding.stop}: what they cut was neither ended by the model nor written in "
            "full, and has no likelihood. Draw samples without `stop`."
        )
    if len(written.tokens) != len(prompts):
        raise DataError(
            f"there are {len(prompts)} prompts, but token ids of samples for {len(written.tokens)}. Pass the rows that "
            "were generated for, and Continuations that hold `tokens`."
        )
    rows = []
    for prompt, samples in zip(prompts, written.tokens, strict=True):
        supervised = (prompt.labels != IGNORE).nonzero()
        before = prompt.inputs["input_ids"][: int(supervised[0]) if len(supervised) else len(prompt)]
        for number, sample in enumerate(samples):
            answer = [*sample, end_token] if len(sample) < decoding.max_new_tokens else list(sample)
            input_ids = torch.cat([before, torch.tensor(answer, dtype=before.dtype)])
            labels = input_ids.clone()
            labels[: len(before)] = IGNORE
            rows.append(Row(f"{prompt.id}@{number}", role, {"input_ids": input_ids}, labels, group=prompt.id))
    return tuple(rows)


@frozen
class Fade:
    """Mean two-way likelihood gap between a model and the oracle over prompts. Higher: further from the oracle.

    Parts: `a` and `b`, the mean gaps on the model's and on the oracle's samples, in nats per token; `jeffreys`, the
    mean of their sum without division by length, in nats per answer.

    Attributes:
        written: rows of what the model wrote; see `sample_rows`.
        oracle_written: rows of what the oracle wrote for the same prompts.
        oracle: the model that was retrained without the forget set.
        of: the model that is measured.
    """

    written: str = "forget_written"
    oracle_written: str = "forget_oracle_written"
    oracle: str = field(default="oracle", kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def needs(self) -> Needs:
        return frozenset(
            Tokens(LabelLogProb(), role, of=of)
            for role in (self.written, self.oracle_written)
            for of in (self.of, self.oracle)
        )

    def __call__(self, seen: Seen) -> Score:
        a, a_whole = self._gaps(seen, self.written, self.of, self.oracle)
        b, b_whole = self._gaps(seen, self.oracle_written, self.oracle, self.of)
        if alone := sorted(a.keys() ^ b.keys()):
            raise DataError(
                f"prompt {alone[0]!r} has samples in only one of {self.written!r} and {self.oracle_written!r}, and so "
                f"have {len(alone) - 1} others. Let both models write for the same prompts, and make rows of both by "
                "`sample_rows`."
            )
        score = Score.mean({prompt: (abs(a[prompt]) + abs(b[prompt])) / 2 for prompt in a}, "knowledge")
        prompts = list(score.per_example)
        if not prompts:
            return score
        sums = {
            "a": sum(a[prompt] for prompt in prompts),
            "b": sum(b[prompt] for prompt in prompts),
            "jeffreys": sum(a_whole[prompt] + b_whole[prompt] for prompt in prompts),
        }
        return evolve(score, parts={name: value / len(prompts) for name, value in sums.items()})

    def _gaps(self, seen: Seen, role: str, writer: str, other: str) -> tuple[dict[str, float], dict[str, float]]:
        """Mean gap of each prompt's samples, per token and whole; nan if one of them has no tokens."""
        own: Flat = seen[Tokens(LabelLogProb(), role, of=writer)]
        theirs: Flat = seen[Tokens(LabelLogProb(), role, of=other)]
        means = []
        for per_token in (True, False):
            gaps = likelihood_gaps(own.values, theirs.values, own.row, rows=own.rows, per_token=per_token)
            by_prompt: dict[str, list[float]] = {}
            for prompt, gap in zip(seen.groups[role], gaps.tolist(), strict=True):
                by_prompt.setdefault(prompt, []).append(gap)
            means.append(
                {prompt: sum(each) / len(each) for prompt, each in by_prompt.items()}
            )  # fsum refuses inf - inf
        return means[0], means[1]
