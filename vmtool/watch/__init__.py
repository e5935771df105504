"""Keeping instances as `run` promised them: what is decided (`decide`) is apart from what is done (`loop`)."""
