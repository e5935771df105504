"""Serving an encrypted model: opened and checked before the engine starts, its keys given to the engine's workers."""
