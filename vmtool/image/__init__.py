"""Container images with vLLM: recipes, builds, archives, and what containerd has of them."""
