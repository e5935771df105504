"""Giving an encrypted model another master key: its data stay, only what wraps their keys is made again."""
