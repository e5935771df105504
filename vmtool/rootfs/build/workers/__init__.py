"""Worker processes that make the parts of an image."""
