"""`vmtool gpu`."""
