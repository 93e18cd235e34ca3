"""What ``bin/reproduce gcnn_unet``, ``_pose``, ``_textures`` and ``_truncated`` run."""
