"""Methods that act at inference: each is a `Model`, so that every metric and attack runs on it unchanged."""

from unlearnkit.decoding.uld import LogitDifference, logit_difference

__all__ = ["LogitDifference", "logit_difference"]
