"""A worker process that makes an endpoint's certificate ready."""
