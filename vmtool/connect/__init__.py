"""A client's side: a local endpoint that verifies a server, pins its TLS key, and only then forwards."""
