"""Embedded synthetic data: brain cohort and geometric shapes."""
