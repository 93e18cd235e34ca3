"""Evaluation of synthetic data: sets made by any generator, their realism and their use."""
