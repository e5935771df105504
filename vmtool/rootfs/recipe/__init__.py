"""A guest image's recipe: its models, its files, its digests."""
