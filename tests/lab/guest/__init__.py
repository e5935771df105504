"""What goes into the guest: the agent, the initramfs's init, and the module that wedges."""
