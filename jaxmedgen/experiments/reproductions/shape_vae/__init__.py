"""The parts of ``bin/reproduce vae``."""
