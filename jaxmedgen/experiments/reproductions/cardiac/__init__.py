"""Parts of the reproduction of label-conditional cardiac synthesis."""
