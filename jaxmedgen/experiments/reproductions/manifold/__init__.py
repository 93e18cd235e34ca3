"""Parts of ``bin/reproduce rhvae``."""
