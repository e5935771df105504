"""Building a guest image: packages, a driver, files of its own, a file system and a manifest."""
