"""What is in an image, and whether it is what its manifest promises."""
