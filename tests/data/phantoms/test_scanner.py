import numpy as np
import pytest

from jaxmedgen.data.phantoms import SITES, BrainCohort, Site
from jaxmedgen.data.phantoms.scanner import CONTRASTS, bias_field, rician, signals


def test_rician_noise_has_the_moments_of_the_distribution():
    rng = np.random.default_rng(0)
    air = rician(rng, np.zeros(200_000, np.float32), 0.3)
    np.testing.assert_allclose(air.mean(), 0.3 * np.sqrt(np.pi / 2), rtol=0.01)  # Rayleigh
    tissue = rician(rng, np.full(200_000, 0.8, np.float32), 0.3)
    np.testing.assert_allclose((tissue**2).mean(), 0.8**2 + 2 * 0.3**2, rtol=0.01)


def test_bias_field_has_the_asked_strength_and_is_smooth():
    rng = np.random.default_rng(1)
    logs = np.log([bias_field(rng, (24, 20, 28), 0.3) for _ in range(300)])
    np.testing.assert_allclose(np.sqrt((logs**2).mean()), 0.3, rtol=0.06)
    steps = np.abs(np.diff(logs, axis=1)).max()
    assert steps < 0.3  # at most the whole deviation in one of 24 voxels


def test_signals_follow_contrast_and_gamma():
    rng = np.random.default_rng
    names = ("csf", "cortex", "white")
    plain = signals(rng(0), "t1", Site(spread=0.0), names)
    np.testing.assert_allclose(plain, [CONTRASTS["t1"][n] for n in names], rtol=1e-6)
    flat = signals(rng(0), "t1", Site(spread=0.0, contrast=0.5), names)
    np.testing.assert_allclose(np.diff(flat), np.diff(plain) / 2, rtol=1e-5)
    steep = signals(rng(0), "t1", Site(spread=0.0, gamma=2.0), names)
    np.testing.assert_allclose(steep, plain**2, rtol=1e-5)


@pytest.mark.parametrize(
    ("contrast", "order"),
    [("t1", "CGW"), ("t1ce", "CGW"), ("t2", "WGC"), ("flair", "CWG")],
)
def test_tissues_are_ordered_as_radiology_expects(contrast, order):
    cohort = BrainCohort(4, (40, 40, 40), contrasts=(contrast,))
    for index in range(4):
        image = cohort[index]["image"][..., 0]
        soft = cohort.probabilities(index)
        mean = {c: np.median(image[soft[..., k] > 0.85]) for k, c in enumerate("BCGW")}
        assert "".join(sorted("CGW", key=mean.get)) == order


def test_sites_shift_images_and_leave_labels():
    means = {}
    for name in SITES:
        cohort = BrainCohort(4, (40, 40, 40), site=name)
        records = [cohort[i] for i in range(4)]
        np.testing.assert_array_equal(records[0]["label"], BrainCohort(1, (40,) * 3)[0]["label"])
        rows = []
        for record in records:
            image, label = record["image"][..., 0], record["label"]
            white, grey = image[label == 3], image[label == 2]
            rows.append((white.mean() - grey.mean()) / np.sqrt((white.var() + grey.var()) / 2))
        means[name] = np.mean(rows)
    # White and grey matter are easier to tell apart on a research scanner than on a clinical or
    # a low-field one.
    assert means["a"] > means["b"] + 0.3 and means["a"] > means["d"] + 0.3


def test_sites_differ_more_than_subjects():
    def curve(site, index):
        image = BrainCohort(4, (40, 40, 40), site=site)[index]["image"]
        return np.quantile(image, np.linspace(0.02, 0.98, 49))

    curves = {site: np.stack([curve(site, i) for i in range(4)]) for site in SITES}
    within = np.mean([np.abs(c - c.mean(0)).mean() for c in curves.values()])
    for one in SITES:
        for other in SITES:
            if one < other:
                gap = np.abs(curves[one].mean(0) - curves[other].mean(0)).mean()
                assert gap > 1.2 * within, (one, other)


def test_thick_slices_blur_one_axis():
    def steps(site):
        image = BrainCohort(1, (64, 64, 64), site=site)[0]["image"][..., 0]
        return [np.abs(np.diff(image, axis=k)).mean() for k in range(3)]

    sharp, thick = steps(Site(noise=0.0)), steps(Site(noise=0.0, fwhm=(0.0, 0.0, 8.0)))
    assert thick[2] / thick[0] < 0.9 * sharp[2] / sharp[0]
