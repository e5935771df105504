"""TPM 2.0: quotes of platform configuration registers, and the log of the events that led to them."""
