"""Worker processes that collect, encrypt and sign models."""
