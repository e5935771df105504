"""What runs inside the guest, as its first process. Imports nothing of the host side."""
