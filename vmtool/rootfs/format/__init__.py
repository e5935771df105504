"""Image files as bytes: partitions, ext4, qcow2, dm-verity trees. Untrusted input, read within bounds."""
