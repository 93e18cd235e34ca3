"""Flax linen modules; they know no loss and no optimiser."""
