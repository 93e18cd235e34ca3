"""Hand-written backends, each beside its plain-XLA reference in ops."""
