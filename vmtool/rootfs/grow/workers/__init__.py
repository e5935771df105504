"""Worker processes of a growth and of its undo."""
