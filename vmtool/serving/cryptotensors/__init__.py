"""Encrypted safetensors files, as the library cryptotensors 0.2.3 (PyPI) writes them, read and written strictly.

The library loads a file whose encryption or signature was deleted as if it were plain. Nothing here does: a file is
whole, signed by the signer that was asked for, and every tensor of it is encrypted, or it is refused.
"""
