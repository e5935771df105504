"""Evidence that a guest presents of what it runs in, verified offline; nothing here is on the network."""
