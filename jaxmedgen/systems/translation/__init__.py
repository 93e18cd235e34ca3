"""Translation between domains of images."""
