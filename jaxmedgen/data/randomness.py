"""Random numbers of generated samples: a stream a sample, whatever was drawn before."""

import numpy as np


def sample_generator(seed: int, start: int, index: int, size: int) -> np.random.Generator:
    """The generator of sample `index` of a source whose samples are numbered from `start`.

    Sources of one seed that do not overlap in numbers have independent samples.

    Raises:
        IndexError: the source has no such sample.
    """
    if not 0 <= index < size:
        raise IndexError(f"sample {index} of {size}")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, start + int(index)))))
