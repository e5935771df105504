"""Tokens of Arm CCA, and of virtCCA, which has the same form."""
