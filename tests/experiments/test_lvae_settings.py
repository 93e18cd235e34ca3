import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.experiments.remodelling.population import Thickening
from jaxmedgen.experiments.reproductions import lvae_settings


def found(difference, truth):
    return Thickening(np.asarray(difference, float), np.asarray(truth, float), np.zeros(17))


def test_thickening_claims_count_open_walls_as_nothing():
    truth = [[0, 1.0], [0, 2.0]]
    exact, elsewhere = found(truth, truth), found([[3.0, 0], [1.0, 0]], truth)
    whole = lvae_settings.thickening_claims("means", [exact, exact])
    assert all(claim.holds for claim in whole) and whole[0].measured == pytest.approx(1)
    half = lvae_settings.thickening_claims("means", [exact, None])
    assert [claim.measured for claim in half] == pytest.approx([0.5, 0.5])
    assert not any(claim.holds for claim in half)
    assert lvae_settings.thickening_claims("means", [elsewhere])[0].measured == 0


def test_settings_are_those_of_the_configuration():
    longer = load_config("lvae:cpu,arm=lvae", lvae_settings.LONG)
    assert longer.criterion.ramp_steps / longer.steps == pytest.approx(0.4)
    assert longer.steps == 2 * load_config("lvae:cpu,arm=lvae").steps
    means = load_config("lvae:cpu,arm=vae2", lvae_settings.READ_MEANS).criterion
    like = load_config("hcm_vae:cpu,arm=vae-mlp").criterion
    for key in ("predict_from", "ramp", "ramp_steps", "classification"):
        assert means[key] == like[key]
