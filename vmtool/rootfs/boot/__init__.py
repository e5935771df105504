"""Booting a guest image once under QEMU, to see what it has."""
