"""The inner half of min-max methods: what is added to hidden states before a micro-batch is learned from."""

from unlearnkit.adversaries.lat import TargetedLatentAttack
from unlearnkit.adversaries.lau import LatentAttack

__all__ = ["LatentAttack", "TargetedLatentAttack"]
