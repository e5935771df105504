"""Worker processes for what lies beside an image: manifest, lock file, list of packages."""
