import numpy as np
import pytest

from jaxmedgen.data.phantoms import BrainCohort
from jaxmedgen.data.phantoms.lesions import draw, mass_effect, paint


def test_hyperintensities_lie_in_white_matter_and_shine_on_flair():
    healthy = BrainCohort(4, (64,) * 3, contrasts=("flair", "t1"))
    ill = BrainCohort(4, (64,) * 3, contrasts=("flair", "t1"), lesions=("wmh",))
    assert ill.info.class_names[-1] == "lesion"
    for index in range(4):
        before, after = healthy[index], ill[index]
        spots = after["label"] == 4
        assert 3 <= spots.sum() < 0.02 * spots.size
        assert (before["label"][spots] == 3).mean() > 0.95
        elsewhere = (after["label"] == 3) & (before["label"] == 3)
        flair, t1 = after["image"][..., 0], after["image"][..., 1]
        assert flair[spots].mean() > flair[elsewhere].mean() + 2 * flair[elsewhere].std()
        assert t1[spots].mean() < t1[elsewhere].mean()


def test_hyperintensities_are_periventricular():
    ill = BrainCohort(4, (64,) * 3, classes="anatomy", lesions=("wmh",))
    for index in range(4):
        soft = ill.probabilities(index)
        mm = np.stack(np.broadcast_arrays(*ill.grid.axes()), -1)
        away = {}
        wall = mm[soft[..., 2] > 0.3]
        for name, weight in (("lesion", soft[..., 8] > 0.5), ("white", soft[..., 4] > 0.9)):
            chosen = mm[weight][:: max(1, weight.sum() // 200)]
            away[name] = np.linalg.norm(chosen[:, None] - wall, axis=-1).min(1).mean()
        assert away["lesion"] < 0.75 * away["white"]


def test_tumour_is_one_sided_and_pushes_tissue():
    ill = BrainCohort(4, (48,) * 3, contrasts=("t1ce", "flair"), lesions=("tumour",))
    healthy = BrainCohort(4, (48,) * 3)
    x = np.broadcast_to(ill.grid.axes()[0], ill.shape)
    for index in range(4):
        mass = ill[index]["label"] == 4
        voxel = np.prod(ill.info.spacing) / 1000
        assert 3 < mass.sum() * voxel < 250  # ml
        side = np.sign(x[mass])
        assert max((side > 0).mean(), (side < 0).mean()) > 0.95
        moved = ill.displacement(index) - healthy.displacement(index)
        assert np.linalg.norm(moved[mass], axis=-1).max() > 0.3
        far = np.abs(x - x[mass].mean()) > 70
        assert np.linalg.norm(moved[far], axis=-1).max() < 0.05


def test_lesions_are_the_same_at_every_resolution():
    sizes = []
    for n in (40, 72):
        cohort = BrainCohort(3, (n,) * 3, lesions=("tumour", "wmh"))
        voxel = np.prod(cohort.info.spacing)
        sizes.append([cohort.probabilities(i)[..., 4].sum() * voxel for i in range(3)])
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=0.1)


def test_parts_of_a_tumour_are_nested():
    rng = np.random.default_rng(0)
    lesions = draw(rng, ("tumour",))
    away = np.linspace(0, 60, 121)
    points = (lesions.lobes[0] + np.outer(away, [0, 0, 1])).astype(np.float32)
    parts = paint(lesions, points, np.ones(len(points), np.float32))
    centre = {k: (v * away).sum() / max(v.sum(), 1e-6) for k, v in parts.items()}
    assert centre["core"] < centre["rim"] < centre["lesion"]
    assert sum(parts.values()).max() <= 1 + 1e-5
    assert np.abs(mass_effect(lesions)).max() > 1
    assert not mass_effect(draw(rng, ("wmh",))).any()


@pytest.mark.parametrize("kinds", [(), ("wmh",), ("tumour",), ("wmh", "tumour")])
def test_only_the_asked_kinds_are_drawn(kinds):
    lesions = draw(np.random.default_rng(3), kinds)
    assert bool(len(lesions.centres)) == ("wmh" in kinds)
    assert bool(len(lesions.radii)) == ("tumour" in kinds)
