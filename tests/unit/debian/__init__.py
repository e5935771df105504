"""Tests of vmtool.debian."""
