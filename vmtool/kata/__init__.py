"""Kata: values to configuration.toml, the key tables by version, the lint, and what a running QEMU's arguments say."""
