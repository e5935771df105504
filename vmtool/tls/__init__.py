"""Certificates of endpoints: vmtool's own small CA, or files that a person has."""
