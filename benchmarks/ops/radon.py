"""Radon transform and filtered back-projection of one slice, against scikit-image."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.ops.case import Case, waiting
from jaxmedgen.ops.radon import (
    filtered_back_projection,
    inscribed_disc,
    parallel_angles,
    radon,
    radon_adjoint,
)


def cases(*, quick: bool, peers: bool) -> Iterator[Case]:
    """Forward and reconstruction, of 180 projections; without `quick` also of 720, and adjoints."""
    n = 512
    rng = np.random.default_rng(0)
    image = (rng.normal(size=(n, n)) * inscribed_disc(n)).astype(np.float32)
    for count in (180,) if quick else (180, 720):
        angles, degrees = parallel_angles(count), 180 * np.arange(count) / count
        forward = jax.jit(radon)
        x = jnp.asarray(image)[None, ..., None]
        sinogram = forward(x, angles)
        reference = np.asarray(sinogram[0, ..., 0]).T
        samples = n * n * count

        def peer_forward(degrees=degrees):
            return skimage_transform().radon(image, degrees)

        def peer_fbp(degrees=degrees, reference=reference):
            return skimage_transform().iradon(reference, degrees)

        name = f"{n}^2 {count}"
        theirs = "scikit-image" if peers else ""
        # Bilinear and linear interpolation and the sum: 8 and 4 operations a sample.
        yield Case(
            f"radon forward {name}",
            waiting(forward, x, angles),
            peer_forward if peers else None,
            theirs,
            flops=8 * samples,
        )
        yield Case(
            f"radon fbp {name}",
            waiting(jax.jit(filtered_back_projection), sinogram, angles),
            peer_fbp if peers else None,
            theirs,
            flops=4 * samples,
        )
        if not quick:
            yield Case(
                f"radon adjoint {name}",
                waiting(jax.jit(radon_adjoint), sinogram, angles),
                flops=8 * samples,
            )


def skimage_transform():
    """The peer, imported only where it is wanted."""
    import skimage.transform

    return skimage.transform
