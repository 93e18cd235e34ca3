"""Pure evaluation metrics and statistics."""
