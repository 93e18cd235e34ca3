"""Supervised segmentation systems."""
