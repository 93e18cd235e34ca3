"""Generative models, data augmentation and segmentation of medical images in JAX."""

__version__ = "0.1.0"
