"""What is wrong with a key or an encrypted file."""

from __future__ import annotations


class Untrusted(ValueError):
    """A key, file or manifest that is not what it has to be; the message says what, without any key material."""


class OtherModel(Untrusted):
    """The owner signed it, but it is not the model that was asked for."""
