"""Procedures around training: ablation, reproduction of claims, real-data reduction."""
