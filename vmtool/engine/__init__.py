"""Doing a plan under its journal, and undoing what a journal records."""
