"""Worker processes for what is next to an image: manifest, lock file, list of packages."""
