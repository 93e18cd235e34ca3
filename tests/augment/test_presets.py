"""What the presets draw, against the table of the sheet: least, largest, and how often."""

import math

import jax
import numpy as np
import pytest

from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.presets import configured, preset
from jaxmedgen.configuration import load_config
from jaxmedgen.nets.moment_exchange import MomentExchange

DRAWS = 8000
NAMES = ("background", "left lung", "right lung")
NEUTRAL = {"scale": 1, "brightness": 1, "contrast": 1, "low_resolution": 1, "gamma": 1}
NEUTRAL |= {"inverted_gamma": 1, "weight": 1, "share": 1}

# Blur and low resolution take half of the channels of a fifth and a quarter of the samples.
_NNUNET = {
    "noise": (0, 0.1, 0.1),
    "blur": (0.5, 1.0, 0.1),
    "brightness": (0.75, 1.25, 0.15),
    "contrast": (0.75, 1.25, 0.15),
    "low_resolution": (0.5, 1.0, 0.125),
    "inverted_gamma": (0.7, 1.5, 0.1),
    "gamma": (0.7, 1.5, 0.3),
}
_BRATS = {
    "noise": (0, 0.1, 0.15),
    "blur": (0.5, 1.5, 0.1),
    "brightness": (0.7, 1.3, 0.15),
    "contrast": (0.65, 1.5, 0.15),
    "low_resolution": (0.5, 1.0, 0.125),
    "inverted_gamma": (0.5, 1.6, 0.15),
    "gamma": (0.5, 1.6, 0.3),
}
# Preset -> stage -> parameter -> least, largest, probability.
SHEET = {
    "affine": {
        "spatial": {
            "rotation": (-15, 15, 0.5),
            "scale": (0.85, 1.15, 0.5),
            "shear": (-5, 5, 0.5),
            "translation": (-0.05, 0.05, 0.5),
        }
    },
    "elastic": {"spatial": {"elastic": (7.5, 7.5, 0.5)}},
    "elastic_noise": {
        "spatial": {"elastic_noise": (0, 900, 0.3), "elastic_noise_width": (9, 13, 1)}
    },
    "diffeo": {"spatial": {"deformation": (1, 4, 0.5)}},
    "gamma": {"intensity": {"gamma": (math.exp(-0.3), math.exp(0.3), 0.5)}},
    "bias": {"intensity": {"bias": (-0.5, 0.5, 0.5)}},
    "mixup": {"mixing": {"weight": (0, 1, 0.5)}},
    "cutout": {"cutout": {"count": (1, 3, 0.5), "side": (0.1, 0.4, 1)}},
    "cutmix": {"mixing": {"share": (0, 1, 0.5)}},
    "nnunet3d": {
        "spatial": {"rotation": (-30, 30, 0.2), "scale": (0.7, 1.4, 0.2), "flip": (1, 1, 0.5)},
        "intensity": _NNUNET,
    },
    "nnunet_brats": {
        "spatial": {
            "rotation": (-30, 30, 0.3),
            "scale": (0.65, 1.6, 0.3),
            "elastic_relative": (0, 0.25, 0.3),
            "flip": (1, 1, 0.5),
        },
        "intensity": _BRATS,
    },
    "genseg2d": {
        "spatial": {
            "rotation": (-3, 3, 1),
            "scale": (0.9, 1.1, 1),
            "elastic": (5, 5, 1),
            "flip": (1, 1, 0.5),
        },
        "intensity": {"shift": (-0.1, 0.1, 1)},
    },
}


def drawn(name):
    """Parameters of many samples, of every stage."""
    axes = 2 if name == "genseg2d" else 3
    policy = preset(name, (1.0,) * axes, classes=4)
    keys = jax.random.split(jax.random.key(0), DRAWS)
    return policy, jax.jit(lambda keys: policy.sample_parameters(keys, 1, axes))(keys)


@pytest.mark.parametrize("name", SHEET)
def test_draws_are_those_of_the_sheet(name):
    _, parameters = drawn(name)
    assert set(parameters) == set(SHEET[name])
    for stage, wanted in SHEET[name].items():
        for key, (low, high, p) in wanted.items():
            value = np.asarray(parameters[stage][key], np.float64).reshape(DRAWS, -1)
            on = value[:, 0] != NEUTRAL.get(key, 0)
            assert on.mean() == pytest.approx(p, abs=0.025), key
            inside, margin = value[on], 0.03 * (high - low) + 1e-6
            if key in ("share", "weight", "flip"):
                inside = inside[inside != NEUTRAL.get(key, 0)]
            assert low - 1e-6 <= inside.min() <= low + margin, key
            assert high - margin <= inside.max() <= high + 1e-6, key


def test_the_shift_of_the_strong_policy_is_normal():
    for name in ("nnunet_brats", "companions"):
        shift = np.asarray(drawn(name)[1]["intensity"]["shift"])[:, 0]
        on = shift != 0
        assert on.mean() == pytest.approx(0.3, abs=0.025)
        assert shift[on].mean() == pytest.approx(0, abs=0.02)
        assert shift[on].std() == pytest.approx(0.2, rel=0.06)


def test_mixing_weights_have_their_beta_distributions():
    for name, key, alpha in (("mixup", "weight", 0.4), ("cutmix", "share", 1.0)):
        value = np.asarray(drawn(name)[1]["mixing"][key])
        value = value[value < 1]
        assert value.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)


def test_what_is_no_draw():
    policies = {name: drawn(name)[0] for name in ("elastic", "diffeo", "bias", "genseg2d")}
    grid, flow, bias, genseg = policies.values()
    assert (grid.spatial.elastic_controls, grid.spatial.elastic_locked) == (7, 2)
    assert flow.spatial.deformation_sigma == 10.0
    assert (bias.intensity.bias_order, bias.intensity.bias_basis) == (3, "monomial")
    wanted = {"elastic_controls": 6, "elastic_locked": 1, "elastic_distribution": "normal"}
    wanted |= {"border": "reflect", "image_order": 0}
    assert {name: getattr(genseg.spatial, name) for name in wanted} == wanted
    for name, kind, weight in (("moex_in", "instance", 1.0), ("moex_pono", "positional", 0.9)):
        exchange = preset(name, (1.0, 1.0)).moment_exchange
        assert exchange == MomentExchange(kind, weight, 0.5, level=0)


def test_geodesics_of_a_chosen_energy_from_a_configuration():
    settings = load_config("unet:cpu,arm=none").augment
    settings.update(preset="diffeomorphic_geodesic", geodesic_energy=(16, 64))
    spatial = configured(settings, (2.0, 2.0, 2.0), NAMES).spatial
    assert (spatial.geodesic_by, spatial.geodesic) == ("energy", Draw(16, 64, p=0.5))
    assert configured(settings, (2.0, 2.0), NAMES, name="geodesic").spatial.geodesic_by == "energy"
    settings.preset = "light"
    with pytest.raises(ValueError, match="'light', which shoots no geodesics"):
        configured(settings, (2.0, 2.0, 2.0), NAMES)
    with pytest.raises(ValueError, match="low first"):
        preset("geodesic", (1.0, 1.0), geodesic_energy=(3, 1))


def test_sides_change_places_by_name_or_as_configured():
    settings = load_config("unet:cpu,arm=none").augment
    settings.preset = "light"
    swapped = [configured(settings, (1.0, 1.0), n).spatial.swap_labels for n in (NAMES, "abc")]
    assert swapped == [((1, 2),), ()]
    settings.swap_labels = ((3, 1),)
    assert configured(settings, (1.0, 1.0), "abcd").spatial.swap_labels == ((3, 1),)
    settings.swap_labels = ((1, 2), (2, 3))
    with pytest.raises(ValueError, match="each value once"):
        configured(settings, (1.0, 1.0), "abcd")
