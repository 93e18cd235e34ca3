"""Displacement and velocity fields: warping, composition, inverse, exponential and logarithm.

A field ``u`` of shape ``[b, *space, n]`` stands for the map ``p -> p + u(p)``; everything is in
voxels, components in array-axis order. Between voxels a field is interpolated, outside of the
volume it continues its border value.

Sources: Arsigny et al., "A log-Euclidean framework for statistics on diffeomorphisms", 2006
(scaling and squaring); Ashburner, "A fast diffeomorphic image registration algorithm", 2007;
Chen et al., "A simple fixed-point approach to invert a deformation field", 2008; Bossa et al.,
"Contributions to 3D diffeomorphic atlas estimation", 2007 (brackets and logarithm).
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmedgen.ops.field_measures import jacobian_matrix
from jaxmedgen.ops.resample import Mode, resample

MAX_SQUARINGS = 12
"""Bound of the adaptive number of squarings: enough for 2048 voxels."""
_LEAST_DETERMINANT = 0.02  # below which Newton's step is not trusted


def identity_grid(shape: Sequence[int]) -> Float[Array, " *s n"]:
    """Voxel coordinates of every voxel, components in array-axis order."""
    axes = [jnp.arange(size, dtype=jnp.float32) for size in shape]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)


def warp(
    image: Float[Array, " b *s c"],
    displacement: Float[Array, " b *s n"],
    *,
    order: int = 1,
    mode: Mode = "border",
    fill: Float[Array, " b c"] | float | int = 0.0,
) -> Float[Array, " b *s c"]:
    """``x'(p) = x(p + u(p))``; arguments as in `resample`."""
    coordinates = identity_grid(displacement.shape[1:-1]) + displacement
    return resample(image, coordinates, order=order, mode=mode, fill=fill)


def compose(
    u: Float[Array, " b *s n"], v: Float[Array, " b *s n"], *, order: int = 1
) -> Float[Array, " b *s n"]:
    """Displacement of ``(id + u) o (id + v)``, that is ``v(p) + u(p + v(p))``.

    Args:
        u: displacement applied second.
        v: displacement applied first.
        order: interpolation of `u`, 1 linear or 3 cubic B-spline.
    """
    return v + warp(u, v, order=order)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _invert(displacement, iterations, tolerance):
    shape, axes = displacement.shape[1:-1], displacement.shape[-1]
    slopes = jacobian_matrix(displacement).reshape(*displacement.shape[:-1], axes**2)
    both = jnp.concatenate([displacement, slopes], -1)
    grid, top = identity_grid(shape), jnp.asarray(shape, displacement.dtype) - 1

    def look(inverse):
        """Size of the residual and the step that should remove it."""
        x = grid + inverse
        values = resample(both, x)
        error = inverse + values[..., :axes]
        slope = values[..., axes:].reshape(*x.shape, axes)
        # Beyond the border the field is constant.
        slope = jnp.where(((x >= 0) & (x <= top))[..., None, :], slope, 0.0)
        newton, determinant = _solve(
            [slope[..., k].at[..., k].add(1.0) for k in range(axes)], error
        )
        step = jnp.where(determinant > _LEAST_DETERMINANT, newton, error)
        return jnp.sum(error**2, -1, keepdims=True), step

    def large(size):
        return jnp.max(size, tuple(range(1, size.ndim))) > tolerance**2

    def unfinished(state):
        count, *_, active = state
        return (count < iterations) & jnp.any(active)

    def improve(state):
        count, inverse, (size, step), relaxation, active = state
        trial = inverse - relaxation * step
        new_size, new_step = look(trial)
        better = new_size < size
        # A finished sample stands still: its result must not depend on the rest of the batch.
        take = better & active.reshape(-1, *(1,) * (inverse.ndim - 1))
        inverse = jnp.where(take, trial, inverse)
        size, step = jnp.where(take, new_size, size), jnp.where(take, new_step, step)
        relaxation = jnp.where(better, jnp.minimum(2 * relaxation, 1.0), relaxation / 2)
        return count + 1, inverse, (size, step), relaxation, large(size)

    start = look(-displacement)
    state = (0, -displacement, start, jnp.ones_like(start[0]), large(start[0]))
    return jax.lax.while_loop(unfinished, improve, state)[1]


@_invert.defjvp
def _invert_jvp(iterations, tolerance, primals, tangents):
    (displacement,), (tangent,) = primals, tangents
    inverse = _invert(displacement, iterations, tolerance)
    coordinates = identity_grid(inverse.shape[1:-1]) + inverse
    columns = []  # of I + Du at the inverse's points
    for j in range(inverse.shape[-1]):
        unit = jnp.zeros_like(coordinates).at[..., j].set(1.0)
        slope = jax.jvp(lambda x: resample(displacement, x), (coordinates,), (unit,))[1]
        columns.append(slope.at[..., j].add(1.0))
    return inverse, _solve(columns, -resample(tangent, coordinates))[0]


def invert(
    displacement: Float[Array, " b *s n"],
    *,
    iterations: int = 30,
    tolerance: float | int = 1e-4,
) -> Float[Array, " b *s n"]:
    """Displacement ``w`` of the inverse map, ``(id + u) o (id + w) = id``.

    Fixed point of ``w(p) = -u(p + w(p))``, started at ``-u``. The plain iteration converges only
    where the Lipschitz constant of `u` is below 1, which flows of a few voxels already break. So
    the residual is multiplied by ``(I + Du)^-1`` (Newton's step with central differences), and a
    voxel whose residual would grow takes half the step: 4 to 8 iterations wherever the determinant
    is positive. Points whose pre-image lies outside of the volume see the border value.

    The gradient follows from the implicit function theorem, ``dw(p) = -(I + Du)^-1 du`` at
    ``p + w(p)``, exact for the linear interpolant at convergence: it costs n + 2 resamplings and no
    stored iterations, and can be differentiated again.

    Args:
        displacement: field in voxels.
        iterations: largest number of iterations.
        tolerance: a sample stops when ``|w(p) + u(p + w(p))|`` is nowhere larger, in voxels.

    Raises:
        ValueError: if iterations or tolerance are not positive.
    """
    if iterations < 1 or tolerance <= 0:
        raise ValueError(f"iterations {iterations}, tolerance {tolerance}: both must be positive")
    return _invert(displacement, iterations, tolerance)


def exp_velocity(
    velocity: Float[Array, " b *s n"], *, steps: int | None = 7, order: int = 1
) -> Float[Array, " b *s n"]:
    """Displacement of the flow ``Exp(v)`` of a stationary velocity at time 1.

    Scaling and squaring: ``u_0 = v / 2^steps``, then `steps` times ``u <- u o (id + u) + u``. The
    start is accurate to ``O(|v|^2 / 4^steps)``; each squaring adds the error of one interpolation.
    Outside of the volume the velocity continues its border value. The inverse is ``Exp(-v)``.

    Gradients recompute each squaring from its input: memory is one field a squaring.

    Args:
        velocity: stationary velocity in voxels per unit of time.
        steps: number of squarings; 7 is safe up to about 30 voxels. None takes for each sample the
            smallest number with ``max |v| / 2^steps < 0.5`` voxel (at most 12): the least work
            without folding, at about twice the error of 7.
        order: interpolation, 1 linear or 3 cubic B-spline: a fifth of the error with 7 steps, a
            twentieth with 10.

    Raises:
        ValueError: if `steps` is negative.
    """
    if steps is not None and steps < 0:
        raise ValueError(f"steps {steps}: give the number of squarings, or None to adapt it")
    square = jax.checkpoint(functools.partial(_square, order=order))
    if steps is not None:
        return jax.lax.scan(lambda u, _: (square(u), None), velocity / 2**steps, length=steps)[0]
    count = squarings(velocity).reshape(-1, *(1,) * (velocity.ndim - 1))

    def masked(u, step):
        active = step < count
        # Skips the work once all samples are done; a while loop would have no reverse derivative.
        new = jax.lax.cond(jnp.any(active), square, lambda u: u, u)
        return jnp.where(active, new, u), None

    start = velocity * jnp.exp2(-count.astype(velocity.dtype))
    return jax.lax.scan(masked, start, jnp.arange(MAX_SQUARINGS))[0]


def squarings(velocity: Float[Array, " b *s n"]) -> Int[Array, " b"]:
    """Smallest ``K <= 12`` with ``max |v| / 2^K < 0.5`` voxel, one a sample."""
    v = jax.lax.stop_gradient(velocity)
    speed = jnp.sqrt(jnp.max(jnp.sum(v**2, -1), axis=tuple(range(1, v.ndim - 1))))
    wanted = jnp.floor(jnp.log2(2 * speed)) + 1
    # The comparison is false for NaN, which no cast to int survives.
    return jnp.where(wanted < MAX_SQUARINGS, jnp.maximum(wanted, 0), MAX_SQUARINGS).astype(int)


def log_displacement(
    displacement: Float[Array, " b *s n"], *, iterations: int = 4, steps: int = 7
) -> Float[Array, " b *s n"]:
    """Stationary velocity ``v`` with ``Exp(v) = id + u``, by Bossa's iteration.

    ``v <- v + r + [v, r] / 2`` with the residual ``id + r = Exp(-v) o (id + u)``, from ``v = u``,
    cubic interpolation throughout. For smooth diffeomorphisms not too far from the identity (not
    every diffeomorphism has a logarithm). Interpolation loses the finest details of a residual, so
    the iteration approaches the solution and then slowly roughens: keep it short.

    Args:
        displacement: field in voxels, a diffeomorphism.
        iterations: updates of the velocity, 2 to 6.
        steps: squarings of each exponential.
    """

    def update(v, _):
        residual = compose(exp_velocity(-v, steps=steps, order=3), displacement, order=3)
        return compose_velocities(v, residual, terms=2), None

    return jax.lax.scan(update, displacement, None, length=iterations)[0]


def lie_bracket(v: Float[Array, " b *s n"], w: Float[Array, " b *s n"]) -> Float[Array, " b *s n"]:
    """``ad_v w = Dv w - Dw v``, the bracket of the group of diffeomorphisms; central differences.

    The negative of the vector fields' commutator: ``Exp(v) o Exp(w)`` then follows the ordinary
    Baker-Campbell-Hausdorff formula, and linear fields ``A p``, ``B p`` give ``(AB - BA) p``.
    """

    def along(a, b):
        return jnp.sum(jacobian_matrix(a) * b[..., None, :], -1)

    return along(v, w) - along(w, v)


def compose_velocities(
    v: Float[Array, " b *s n"], w: Float[Array, " b *s n"], *, terms: int = 3
) -> Float[Array, " b *s n"]:
    """Velocity ``z`` with ``Exp(z) ~ Exp(v) o Exp(w)``, Baker-Campbell-Hausdorff.

    ``z = v + w + [v, w] / 2 + ([v, [v, w]] + [w, [w, v]]) / 12``.

    Args:
        v: velocity of the map applied second.
        w: velocity of the map applied first.
        terms: 1 keeps the sum, 2 the bracket, 3 the double brackets.

    Raises:
        ValueError: for another number of terms.
    """
    if terms not in (1, 2, 3):
        raise ValueError(f"terms {terms} is unknown: use 1, 2 or 3")
    total = v + w
    if terms > 1:
        bracket = lie_bracket(v, w)
        total = total + bracket / 2
    if terms > 2:
        total = total + (lie_bracket(v, bracket) - lie_bracket(w, bracket)) / 12
    return total


def _square(u, order):
    return compose(u, u, order=order)


def _solve(columns, b):
    """``x`` with ``[c_1 .. c_n] x = b`` by Cramer's rule, n = 2 or 3, and the determinant."""
    if len(columns) == 2:
        c, d = columns
        parts = [_cross2(b, d), _cross2(c, b)]
        determinant = _cross2(c, d)
    else:
        c, d, e = columns
        de = jnp.cross(d, e)
        parts = [jnp.sum(b * de, -1), jnp.sum(c * jnp.cross(b, e), -1)]
        parts.append(jnp.sum(c * jnp.cross(d, b), -1))
        determinant = jnp.sum(c * de, -1)
    determinant = determinant[..., None]
    return jnp.stack(parts, -1) / determinant, determinant


def _cross2(a, b):
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
