"""AMD SEV-SNP: attestation reports, signed by a key of the processor (VCEK) or of the cloud's operator (VLEK)."""
