"""The command line: text, JSON, exit codes and the rendering of errors happen here only."""
