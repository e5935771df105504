"""Worker processes that look at GPUs."""
