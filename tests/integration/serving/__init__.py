"""The front as a process of its own, between real sockets."""
