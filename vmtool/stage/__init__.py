"""The parts of a launch that every launcher has, and what a launcher is."""
