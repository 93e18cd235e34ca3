"""Random transforms on device, batched, image and label together."""
