import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxmedgen.ops.conv import conv
from jaxmedgen.ops.groups import act_on_image, point_group
from jaxmedgen.ops.harmonics import (
    clebsch_gordan,
    degree_slice,
    real_basis,
    real_wigner_matrices,
    real_wigner_matrix,
)
from jaxmedgen.ops.steerable import (
    bispectrum,
    bispectrum_triples,
    irrep_basis,
    linear_profiles,
    power_spectrum,
    rotation_set,
    smooth_profiles,
    steer,
    steerable_basis,
    steerable_conv,
)

RNG = np.random.default_rng(0)
CUBE = point_group("O").matrices


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@pytest.fixture(scope="module", params=["linear", "smooth"])
def rotated(request):
    """Responses of degree 2 to a volume under the 24 rotations of the cube."""
    basis = steerable_basis(5, 2, profile=request.param)
    radial = normal(1, 2, 3, basis.shape[3])
    volume = np.asarray(normal(1, 6, 6, 6, 1))
    volumes = np.concatenate([_turned(volume, m) for m in CUBE])
    return np.asarray(jax.jit(lambda v: steerable_conv(v, radial, basis))(jnp.asarray(volumes)))


def test_responses_turn_with_the_volume(rotated):
    wigner = real_wigner_matrices(2, CUBE)
    for matrix, d, response in zip(CUBE, wigner, rotated):
        expected = _turned(rotated[:1] @ d.T.astype(np.float32), matrix)[0]
        np.testing.assert_allclose(response, expected, atol=1e-5 * np.abs(rotated).max())
    assert min(np.abs(rotated[..., degree_slice(n)]).max() for n in range(3)) > 0.1


def test_invariants_do_not_change_under_the_rotations_of_the_cube(rotated):
    for invariant, count in ((power_spectrum, 3), (bispectrum, len(bispectrum_triples(2)))):
        maps = np.asarray(invariant(jnp.asarray(rotated)))
        assert maps.shape == (24, 6, 6, 6, 2, count)
        expected = np.concatenate([_turned(maps[:1], m) for m in CUBE])
        np.testing.assert_allclose(maps, expected, atol=2e-5 * np.abs(maps).max())


def test_largest_steered_response_is_invariant_too(rotated):
    coefficients = normal(2, 9)
    steered = np.asarray(steer(jnp.asarray(rotated), coefficients, rotation_set(24)).max(-1))
    expected = np.concatenate([_turned(steered[:1], m) for m in CUBE])
    np.testing.assert_allclose(steered, expected, atol=1e-5 * np.abs(steered).max())
    fewer = np.asarray(steer(jnp.asarray(rotated), coefficients, rotation_set(1)).max(-1))
    moved = np.concatenate([_turned(fewer[:1], m) for m in CUBE])
    assert np.abs(fewer - moved).max() > 0.1 * np.abs(fewer).max()


def test_steered_response_is_that_of_the_turned_filter():
    basis = steerable_basis(3, 2)
    radial, coefficients, volume = normal(1, 1, 1, 3), normal(1, 9), normal(1, 5, 5, 5, 1)
    ours = steer(steerable_conv(volume, radial, basis), coefficients, CUBE)
    kernel = np.einsum("xyzri,r,i->xyz", basis, radial[0, 0, 0], coefficients[0])
    kernels = [_turned(kernel[None, ..., None], m)[0, ..., 0] for m in CUBE]
    direct = conv(volume, jnp.asarray(np.stack(kernels, -1)[..., None, :], jnp.float32))
    np.testing.assert_allclose(ours[..., 0, :], direct, atol=1e-5)


def test_invariants_hold_for_any_rotation_of_the_responses():
    with jax.enable_x64(True):
        responses = jnp.asarray(RNG.normal(size=(4, 16)))
        wigner = jnp.asarray(real_wigner_matrices(3, Rotation.random(5, rng=0).as_matrix()))
        turned = jnp.einsum("rij,pj->rpi", wigner, responses)
        for invariant in (power_spectrum, bispectrum):
            value = invariant(responses)
            assert value.dtype == jnp.float64 and bool((jnp.abs(value) > 1e-6).all())
            np.testing.assert_allclose(invariant(turned), value[None] + 0 * turned[..., :1], 1e-9)


def test_bispectrum_is_its_complex_definition_real_for_even_and_imaginary_for_odd_sums():
    responses = RNG.normal(size=(6, 16)).astype(np.float32)
    spectra = [responses[:, degree_slice(n)] @ real_basis(n).conj() for n in range(4)]
    for n, r in enumerate(spectra):  # a real image
        np.testing.assert_allclose(r[:, ::-1], (-1.0) ** np.arange(-n, n + 1) * r.conj(), atol=1e-6)
    triples = [*bispectrum_triples(3), (2, 1, 1), (3, 2, 1), (1, 3, 3)]
    ours = bispectrum(jnp.asarray(responses), triples)
    for value, (a, b, c) in zip(np.asarray(ours).T, triples):
        table = clebsch_gordan(a, b, c)
        full = np.einsum("pa,pb,pc,abc->p", spectra[a], spectra[b], spectra[c].conj(), table)
        kept, dropped = (full.imag, full.real) if (a + b + c) % 2 else (full.real, full.imag)
        np.testing.assert_allclose(value, kept, atol=1e-5)
        np.testing.assert_allclose(dropped, 0, atol=1e-5)


def test_profiles_are_the_published_ones():
    rho = np.linspace(0, 6, 61)
    hats = linear_profiles(rho, 7)
    values = RNG.normal(size=7)
    np.testing.assert_allclose(hats @ values, np.interp(rho, np.arange(7), values), atol=1e-12)
    assert steerable_basis(7, 1).shape == (7, 7, 7, 7, 4)  # n_grid of a 7-tap kernel

    def unit_step(x):
        return np.where(x > 0, np.exp(-1 / np.where(x > 0, x, 1)), 0)

    centres, step = np.linspace(0, 2.5, 7)[1:-1], 2.5 / 6
    u = (rho[:, None] - centres) / step
    expected = 1.14136 * np.exp(2) * unit_step(u + 1) * unit_step(1 - u)
    np.testing.assert_allclose(smooth_profiles(rho, 5, radius=2.5), expected, atol=1e-12)
    assert not steerable_basis(5, 2, profile="smooth")[2, 2, 2].any()


def test_filters_are_round_in_mm():
    coarse = steerable_basis((5, 5, 3), 2, spacing=(1.0, 1.0, 2.0))
    fine = steerable_basis(5, 2)
    np.testing.assert_allclose(coarse, fine[:, :, ::2], atol=1e-12)
    assert not fine[2, 2, 2, :, 1:].any() and fine[2, 2, 2, 0, 0] > 0


def test_rotation_sets_have_their_sizes_and_hold_the_cube():
    for count in (1, 4, 24, 72):
        rotations = rotation_set(count)
        assert len(np.unique(np.round(rotations, 6), axis=0)) == count
        np.testing.assert_allclose(np.linalg.det(rotations), 1.0, atol=1e-12)
        distance = np.abs(rotations[:, None] - CUBE[None]).max((2, 3)).min(0)
        assert int((distance < 1e-9).sum()) == min(count, 24)


def test_irreducible_kernels_commute_with_rotations():
    basis = steerable_basis(5, 2, profile="smooth")
    for degree_in, degree_out, paths in ((0, 2, 5), (1, 1, 15), (1, 2, 10)):
        kernels = irrep_basis(basis, degree_in, degree_out)
        assert kernels.shape[3:] == (paths, 2 * degree_in + 1, 2 * degree_out + 1)
        for matrix in CUBE[[1, 7, 15]]:
            d_in, d_out = (real_wigner_matrix(n, matrix) for n in (degree_in, degree_out))
            flat = kernels.reshape(1, *kernels.shape[:3], -1)
            moved = _turned(flat, matrix).reshape(kernels.shape)  # K(R^-1 v)
            expected = np.einsum("ia,xyzpij,jb->xyzpab", d_in, kernels, d_out)
            np.testing.assert_allclose(moved, expected, atol=1e-12)
        assert np.abs(kernels).max() > 0.1
    with pytest.raises(ValueError, match="ends at 2"):
        irrep_basis(basis, 0, 3)


def test_settings_that_alias_or_do_not_fit_are_refused():
    for taps, degree, spacing, message in (
        (3, 3, (1, 1, 1), "degree 3"),
        (4, 1, (1, 1, 1), "taps 4"),
        (3, 1, (1, 1, 0), "spacing"),
    ):
        with pytest.raises(ValueError, match=message):
            steerable_basis(taps, degree, spacing=spacing)
    with pytest.raises(ValueError, match="radial"):
        steerable_conv(normal(1, 5, 5, 5, 1), normal(1, 1, 2, 3), steerable_basis(3, 2))
    with pytest.raises(ValueError, match="count 7"):
        rotation_set(7)


def _turned(x, matrix):
    """``x(g^-1 p)`` for arrays ``[b, *space, ...]``; `tests/ops/test_groups.py` checks the move."""
    flat = jnp.asarray(np.asarray(x).reshape(*x.shape[:4], -1))
    return np.asarray(act_on_image(flat, matrix)).reshape(x.shape)
