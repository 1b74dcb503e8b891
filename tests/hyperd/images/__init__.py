"""Images: names, archives, layers, registries."""
