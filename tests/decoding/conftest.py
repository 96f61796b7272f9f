"""Guards are tried on the models that attacks are tried on."""

from tests.attacks.conftest import attacked

__all__ = ["attacked"]
