"""GPUs and other accelerators: which there are, and giving them to VFIO and back."""
