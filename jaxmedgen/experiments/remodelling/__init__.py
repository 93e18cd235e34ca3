"""Shapes of two classes: what a classifying VAE knows of them, and how it shows it."""
