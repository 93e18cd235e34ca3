"""Parts of ``bin/reproduce gcnn_unet`` and ``gcnn_pose``: poses, sizes, textures, small sets."""
