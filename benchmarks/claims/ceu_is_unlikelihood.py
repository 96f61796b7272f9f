"""CE-U's gradient is that of token unlikelihood, -log(1 - p): a closed form, checked on logits and through a model.

    python benchmarks/claims/ceu_is_unlikelihood.py

Random logits in float64 over a wide range of scales and vocabularies, gradients by autograd; then the gradient of all
parameters of a small transformer, by the engine, for both objectives. The last columns show what the shared gradient
means: its norm is at most sqrt(2) p, so that it fades with the token, where gradient ascent's grows to its full size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from findings import Check, Clock, Finding, parser_of, publish, started
from torch import Tensor

import unlearnkit as uk
from unlearnkit.batch import Row
from unlearnkit.models.tiny import tiny_model
from unlearnkit.objectives.ce_u import CEU, ce_u_loss
from unlearnkit.objectives.unlikelihood import Unlikelihood, unlikelihood
from unlearnkit.protocols import Objective
from unlearnkit.train import Engine

CLAIM = (
    "Follows from the definition of CE-U (Yang 2025), which its paper derives otherwise: value H(q) - log(1 - p), so "
    "that its gradient equals that of unlikelihood training (Welleck et al. 2020)."
)
LogitLoss = Callable[[Tensor, Tensor], Tensor]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--tokens", type=int, default=2000, help="positions per vocabulary and scale")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[2, 10, 1000])
    parser.add_argument("--scales", type=float, nargs="+", default=[0.1, 1.0, 10.0, 100.0])
    options = started(parser, arguments)
    clock = Clock()
    rows, worst, bound, naive = [], 0.0, 0.0, 0
    for vocabulary in options.vocabularies:
        for scale in options.scales:
            differences, ratios, overflows = [], [], 0
            for seed in range(options.seeds):
                generator = torch.Generator().manual_seed(seed)
                shape = (options.tokens, vocabulary)
                logits = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
                labels = torch.randint(vocabulary, (options.tokens,), generator=generator)
                ce_u, away = gradient(ce_u_loss, logits, labels), gradient(unlikelihood, logits, labels)
                differences.append(float((ce_u - away).abs().max()))
                probability = torch.softmax(logits, -1).gather(-1, labels[:, None])[:, 0]
                ratio = ce_u.norm(dim=-1) / probability
                ratios.append(float(ratio[probability > 1e-150].max()))  # below, squares in the norm underflow
                overflows += int((1 - probability <= 0).sum())
            worst, bound, naive = max(worst, *differences), max(bound, *ratios), naive + overflows
            rows.append((vocabulary, scale, max(differences), max(ratios), overflows))
    by_model = max(through_a_model(seed) for seed in range(options.seeds))
    sure, gone = pulls(0.999), pulls(0.001)
    publish(
        Finding(
            name="ceu_is_unlikelihood",
            claim=CLAIM,
            setting=f"float64, {options.tokens} positions x {options.seeds} seeds per line; a random Llama for the engine.",
            columns=("V", "scale of logits", "largest difference", "largest |gradient| / p", "1 - p rounds to 0"),
            rows=rows,
            checks=[
                Check("equal gradients on logits", f"largest difference {worst:.1e}", worst < 1e-12),
                Check(
                    "equal gradients of a model's parameters", f"relative difference {by_model:.1e}", by_model < 1e-12
                ),
                Check("|gradient| <= sqrt(2) p", f"largest ratio {bound:.6f}", bound <= math.sqrt(2) * (1 + 1e-9)),
                Check(
                    "maximal where the model is sure, 0 once the token is forgotten; ascent is the opposite",
                    f"p = 0.999: {sure[0]:.3f} against {sure[1]:.4f}; p = 0.001: {gone[0]:.4f} against {gone[1]:.3f}",
                    sure[0] > sure[1] and gone[0] < gone[1],
                ),
            ],
            remark=f"Written as -log(1 - p), unlikelihood would have been infinite at {naive} positions.",
            seconds=clock.seconds(),
        ),
        options.out,
    )


def gradient(loss: LogitLoss, logits: Tensor, labels: Tensor) -> Tensor:
    """Of the sum over positions, with respect to the logits: [N, V]."""
    leaf = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf, labels).sum(), leaf)
    return found


def through_a_model(seed: int) -> float:
    """Relative L2 distance of the two gradients of a random transformer, over all its parameters."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for number, length in enumerate((4, 9, 17)):
        tokens = torch.randint(64, (length,), generator=generator)
        rows.append(Row(str(number), "forget", {"input_ids": tokens}, tokens))
    objectives: tuple[Objective, ...] = (CEU(skip=0), Unlikelihood(threshold=-math.inf))
    found = []
    for objective in objectives:
        model = tiny_model("llama", seed=seed, dtype=torch.float64)
        Engine(models={"model": uk.CausalLM(model)}).backward(objective, rows)
        found.append(torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None]))
    return float((found[0] - found[1]).norm() / found[1].norm())


def log_prob(logits: Tensor, labels: Tensor) -> Tensor:
    """What gradient ascent minimises: [N, V], [N] -> [N]."""
    return torch.log_softmax(logits, -1).gather(-1, labels[:, None])[:, 0]


def pulls(probability: float) -> tuple[float, float]:
    """Norm of CE-U's gradient and of gradient ascent's, for a label of that probability among ten tokens."""
    rest = (1 - probability) / 9
    logits = torch.tensor([[probability, *[rest] * 9]], dtype=torch.float64).log()
    label = torch.zeros(1, dtype=torch.int64)
    return float(gradient(ce_u_loss, logits, label).norm()), float(gradient(log_prob, logits, label).norm())


if __name__ == "__main__":
    main()
