"""Parts of ``bin/reproduce hcm_vae`` and ``bin/reproduce lvae``."""
