"""Worker processes that handle models."""
