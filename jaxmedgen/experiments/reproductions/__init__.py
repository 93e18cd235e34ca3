"""Experiments that check a system's claims, one module a name of ``bin/reproduce``.

A module offers ``reproduce(options) -> Reproduction``; `record.py` writes what comes out.
"""
