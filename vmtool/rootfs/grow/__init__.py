"""Growing an image, in place or as a copy, so that a kill at any write can be undone."""
