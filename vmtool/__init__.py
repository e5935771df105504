"""vmtool takes a bare Linux server to a confidential vLLM endpoint and proves each step."""

__version__ = "0.1.0"
