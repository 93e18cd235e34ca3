"""Host side: sources, preprocessing, the sharded input pipeline; knows no network."""
