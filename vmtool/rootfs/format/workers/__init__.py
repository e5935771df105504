"""Worker processes that read image files."""
