"""Worker processes of booting an image."""
