"""`python -m vmtool`."""

from vmtool.cli.main import main

main()
