"""Random choices that depend on a key only: the same in any process, at any time, however the work is cut."""

from __future__ import annotations

import hashlib


def keyed_draw(size: int, *key: object) -> int:
    """A number in 0 … size - 1 that depends on the key only."""
    content = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(content) % size
