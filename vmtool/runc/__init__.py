"""The launcher for plain containers: no virtual machine, not confidential."""
