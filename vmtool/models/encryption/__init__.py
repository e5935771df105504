"""Encrypted model directories: weights that only a master key opens, and a manifest that the model's owner signed."""
