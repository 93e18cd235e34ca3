"""Systems that find where something is."""
