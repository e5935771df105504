"""`vmtool key`."""
