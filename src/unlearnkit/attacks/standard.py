"""The attacks that an audit runs if nobody chooses: one or two of each kind that need no model or judge from outside.

Those that search a suffix or a whole prompt token by token (GCG, DUA, EnhancedGCG, REBEL) take minutes for each secret and
are not among them; nor are those that are told the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unlearnkit.attacks.attack import Asking, Attack, Secret
from unlearnkit.attacks.direction_ablation import DirectionAblation
from unlearnkit.attacks.embedding_attack import EmbeddingAttack
from unlearnkit.attacks.few_shot_rephrase import FewShot, Rephrased
from unlearnkit.attacks.linear_probe import ClassProbe, LinearProbe
from unlearnkit.attacks.logit_lens import LogitLens
from unlearnkit.attacks.masking_alias import Unnamed
from unlearnkit.attacks.prompt_perturbation import Insertion, NaivePerturbation
from unlearnkit.attacks.quantization_attack import Quantizing
from unlearnkit.attacks.relearning import Relearning, pairs
from unlearnkit.attacks.sampling import Sampled
from unlearnkit.edits.quantization import FourBit, Int8, RoundToNearest
from unlearnkit.protocols import Sampling

SHOTS = 5
"""Examples before a question."""

OTHERS = 2
"""Facts about others that are trained on for each fact about the forgotten, so that a model does not lose itself."""


def standard(
    known: Sequence[Secret],
    retained: Sequence[Secret],
    *,
    steps: int = 20,
    learning_rate: float = 1e-5,
    samples: int = 16,
    seed: int = 0,
) -> Mapping[str, Attack]:
    """Attacks by name.

    Args:
        known: what the attacker knows that is not asked for: other facts of the same kind. Attacks that train on them are
            left out without any.
        retained: knowledge that was to stay, which attacks show or train on as well; those that must are left out without
            enough of it. Ask the target for other such knowledge, or it says nothing of what an attack did.
        steps, learning_rate: of attacks that train.
        samples: answers drawn to each question.
        seed: of all draws.
    """
    kept = tuple(retained)
    attacks: dict[str, Attack] = {
        "plain question": Asking(),
        "rephrased": Rephrased(),
        "unnamed": Unnamed(seed=seed),
        "perturbed": NaivePerturbation(variants=tuple(Insertion(7, mark) for mark in ("!", "_", " "))),
        f"worst of {samples} samples": Sampled(
            sampling=Sampling(samples=samples, seed=seed),
            ks=(*(k for k in (1, 2, 4, 8, 16, 32, 64, 128) if k < samples), samples),
        ),
        "logit lens": LogitLens(seed=seed),
        "linear probe": LinearProbe(known=tuple(one for one in kept if one.wrong), seed=seed),
        "8 bits": Quantizing(Int8()),
        "4 bits": Quantizing(RoundToNearest(bits=4)),
        "FP4": Quantizing(FourBit("fp4")),
        "soft prompt": EmbeddingAttack(
            length=4, steps=steps, every=max(1, steps // 4), layers=False, rate=1e-2, seed=seed
        ),
        "direction ablation": DirectionAblation(seed=seed),
    }
    if len({one.keyword for one in kept}) < len(kept):  # else no answer of one fact is that of another
        attacks["class probe"] = ClassProbe(known=kept, seed=seed)
    if len(kept) > SHOTS:
        attacks["few shots"] = FewShot(known=kept, shots=SHOTS, seed=seed)
    train = {
        "relearning, other facts": (*pairs(known), *pairs(kept[: OTHERS * len(known)])) if known else (),
        "relearning, facts of others": pairs(kept),
    }
    for name, texts in train.items():
        if texts:
            attacks[name] = Relearning(
                texts=texts,
                recipe=name.partition(", ")[2],
                steps=steps,
                learning_rate=learning_rate,
                look_at=(steps // 4, steps // 2),
                seed=seed,
            )
    return attacks
