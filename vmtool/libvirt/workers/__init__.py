"""Worker processes of a libvirt launch."""
