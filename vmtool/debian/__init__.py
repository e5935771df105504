"""Debian's own tools on the build host."""
