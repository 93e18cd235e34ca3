"""Models of shape: what label maps of a population look like."""
