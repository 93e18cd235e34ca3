"""The parts of ``bin/reproduce gcnn_unet``: poses, matched sizes, textures, truncated training."""
