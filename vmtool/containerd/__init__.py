"""The room of containerd: its socket and configuration, the containers and tasks that vmtool asks it for."""
