"""Pure functions on arrays, no parameters."""
