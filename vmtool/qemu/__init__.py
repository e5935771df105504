"""QEMU processes that run, whoever started them: found, read, verified, ended."""
