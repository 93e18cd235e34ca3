"""Parts of the reproduction of HCVAE."""
