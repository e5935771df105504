"""Model directories, and the small canary model."""
