"""The population: shapes come from the hidden family and from nothing else."""

import numpy as np
import pytest

from jaxmedgen.data.phantoms.population import CLASSES, Population, modes


@pytest.mark.parametrize("shape", [(32, 32), (20, 20, 20)])
def test_subjects_are_functions_of_seed_and_number(shape):
    source, later = Population(4, shape, seed=2), Population(1, shape, seed=2, start=3)
    one, same = source[3], later[0]
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
    assert one["image"].shape == (*shape, 1)
    assert set(np.unique(one["label"])) == set(range(len(CLASSES)))
    np.testing.assert_allclose([one["image"].mean(), one["image"].std()], [0, 1], atol=1e-5)


def test_shape_is_a_function_of_the_coefficients():
    """Without jitter, equal coefficients give equal labels whatever the noise."""
    plain = Population(8, (32, 32), modes=0, jitter=0.0)
    assert all((plain[i]["label"] == plain[0]["label"]).all() for i in range(8))
    shaped = Population(8, (32, 32), jitter=0.0)
    assert all((shaped[i]["label"] != shaped[0]["label"]).mean() > 0.01 for i in range(1, 8))


def test_modes_are_orthogonal_and_of_equal_strength():
    fields = modes((32, 32), 4, 0.03, 0.16, 0).reshape(4, -1)
    gram = fields @ fields.T / (32 * 32)
    np.testing.assert_allclose(gram, np.eye(4) * (0.03 * 32) ** 2, atol=1e-9)
