"""`vmtool rootfs`."""
