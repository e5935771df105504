"""What is kept beside a guest image: manifest, lock file, list of packages."""
