"""What is verified about a running instance, whatever launched it."""
