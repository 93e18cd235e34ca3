"""Parts of ``bin/reproduce label_deformation``: models, claims, tables and pictures."""
