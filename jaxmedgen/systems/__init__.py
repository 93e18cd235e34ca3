"""One file a system, in family folders; systems never import each other."""
