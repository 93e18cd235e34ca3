"""Volumes built from planes: scores, tables, files and pictures."""
