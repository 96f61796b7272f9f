"""Checks of an objective's numbers that attrs does not bring."""

from __future__ import annotations

import math

from attrs import Attribute


def finite(_: object, attribute: Attribute[float], value: float) -> None:
    """Refuse nan and infinity; a weight may be zero, or negative to turn its term around."""
    if not math.isfinite(value):
        raise ValueError(f"'{attribute.name}' must be a finite number: {value}")
