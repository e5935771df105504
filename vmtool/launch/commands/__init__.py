"""`vmtool run`, `plan`, `ps`, `status` and the other commands on instances."""
