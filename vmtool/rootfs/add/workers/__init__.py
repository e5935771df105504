"""Worker processes that read or change an existing image."""
