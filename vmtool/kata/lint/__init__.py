"""The lint of Kata's configuration: a family of rules in each file."""
