"""The HTTP side of a launch: health, the canary, a chat."""
