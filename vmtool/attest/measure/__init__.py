"""What a good launch must show, worked out from its files before it starts."""
