"""Systems that learn features and classes of whole images."""
