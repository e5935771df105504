"""The only room with effects: processes, files, sockets, locks, the journal."""
