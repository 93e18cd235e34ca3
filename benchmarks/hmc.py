"""HMC over velocities: samples a second, the share of Exp, and its gradient against PyTorch.

    bin/bench hmc
    python -m benchmarks.hmc --only 3d --rounds 3 --threads 1

The work of PADDIT's sampler: all chains take a trajectory of 10 leapfrog steps with the energy
``|I_T - I_k o Exp(v_k)|^2 / (2 sigma^2) + |xi_k|^2 / 2``, v from Wendland control points every 8
voxels, 6 squarings, float32. 2D is 64^2 with 12 chains, 3D 48^3 with 4. A sample is a trajectory of
one chain. The share of Exp is its time forward and backward within a step. The peer takes the same
gradient by autograd: control points by a matrix product, VoxelMorph's squarings and warp with
`grid_sample`; both gradients are compared before anything is timed.
"""

import argparse
import json
import os

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.ops.case import Case, Run, measure, waiting
from jaxmedgen.data.phantoms.population import Population
from jaxmedgen.ops.fields import exp_velocity
from jaxmedgen.ops.hmc import hmc_start, hmc_transition
from jaxmedgen.ops.velocity_flows import velocity_flow
from jaxmedgen.systems.deformation.paddit_em import Template, posterior_energy

PROBLEMS = {"2d": ((64, 64), 12), "3d": ((48, 48, 48), 4)}
LEAPFROG, SQUARINGS, SIGMA = 10, 6, 0.5


def main() -> None:
    """Prints a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PROBLEMS, help="one problem")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    lines = []
    for name in [args.only] if args.only else PROBLEMS:
        lines.append(problem(name, args.rounds, args.threads))
        line = lines[-1]
        print(
            f"{name}: {line['samples_per_s']:.1f} samples/s, Exp and its gradient "
            f"{100 * line['exp_share']:.0f} % of a leapfrog step, control points "
            f"{100 * line['control_share']:.0f} %"
        )
        if "ratio" in line:
            print(f"    gradient {1000 * line['gradient_s']:.1f} ms, torch {line['ratio']:.1f}x")
    print(json.dumps({"benchmark": "hmc", "threads": args.threads, "problems": lines}))


def problem(name: str, rounds: int, threads: int) -> dict[str, float | str]:
    """Times a trajectory, a gradient, and the parts of a gradient."""
    shape, chains = PROBLEMS[name]
    population = Population(chains, shape)
    image = jnp.stack([population[k]["image"] for k in range(chains)])
    flow = velocity_flow(shape, squarings=SQUARINGS)
    hyper = flow.prior.start(2.0)
    template = Template(image.mean(0), jnp.float32(SIGMA**2))
    rng = np.random.default_rng(0)
    xi = jnp.asarray(0.5 * rng.normal(size=(chains, *flow.prior.coordinates)), jnp.float32)

    def energy(xi):
        return posterior_energy(xi, image, template, flow, hyper)

    @jax.jit
    def transition(keys, state):
        return hmc_transition(keys, state, energy, jnp.full(chains, 0.01), LEAPFROG)[0]

    def control(xi):
        return flow.prior.velocity(xi, hyper)

    def exponential(v):
        return exp_velocity(v, steps=SQUARINGS)

    v = jax.jit(control)(xi)
    state = jax.jit(lambda x: hmc_start(energy, x))(xi)
    keys = jax.random.split(jax.random.key(0), chains)
    gradient = jax.jit(jax.grad(lambda x: energy(x).sum()))
    peer = _peer(shape, image, template, flow, hyper, xi, gradient(xi), threads)
    times = {
        part: measure(Case(f"hmc {name} {part}", run, *other), rounds)
        for part, run, *other in (
            ("transition", waiting(transition, keys, state)),
            ("gradient", waiting(gradient, xi), *peer),
            ("exp", _with_gradient(exponential, v)),
            ("control", _with_gradient(control, xi)),
        )
    }
    seconds = {part: line["ours_s"] for part, line in times.items()}
    step = seconds["transition"] / LEAPFROG
    line = {
        "name": name,
        "samples_per_s": chains / seconds["transition"],
        "gradient_s": seconds["gradient"],
        "exp_share": seconds["exp"] / step,
        "control_share": seconds["control"] / step,
    }
    ratio = {k: times["gradient"][k] for k in ("peer", "peer_s", "ratio") if k in times["gradient"]}
    return line | ratio


def _with_gradient(function, x: jax.Array) -> Run:
    """Forward pass and transpose of `function`."""

    @jax.jit
    def both(x):
        y, transpose = jax.vjp(function, x)
        return transpose(y)

    return waiting(both, x)


def _peer(shape, image, template, flow, hyper, xi, expected, threads) -> tuple[Run, str] | tuple:
    """The gradient of the same energy in torch, or nothing where it is not installed."""
    try:
        import torch
        from torch.nn import functional
    except ImportError:
        print("torch is left out: pip install -e '.[bench]'")
        return ()
    torch.set_num_threads(threads)
    points, axes = flow.prior.coordinates[:-1], len(shape)
    count = int(np.prod(points))
    unit = jnp.eye(count).reshape(count, *points, 1) * jnp.ones(axes)
    field = jax.jit(lambda u: flow.prior.velocity(u[None], hyper)[0, ..., 0])
    basis = torch.from_numpy(np.stack([np.asarray(field(u)) for u in unit]).reshape(count, -1))
    pictures = torch.from_numpy(np.array(image)).movedim(-1, 1)
    wanted = torch.from_numpy(np.array(template.image)).movedim(-1, 0)
    grid = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij"))[None].float()
    size = torch.tensor(shape).float().reshape(1, -1, *(1,) * axes) - 1

    def look(source, u):
        place = (2 * (grid + u) / size - 1).movedim(1, -1).flip(-1)
        return functional.grid_sample(source, place, align_corners=True, padding_mode="border")

    leaf = torch.from_numpy(np.array(xi))

    def run():
        x = leaf.clone().requires_grad_()
        flat = x.reshape(len(x), count, axes).movedim(-1, 1)
        u = (flat @ basis).reshape(len(x), axes, *shape) / 2**SQUARINGS
        for _ in range(SQUARINGS):
            u = u + look(u, u)
        residual = look(pictures, u) - wanted
        ((residual**2).sum() / (2 * SIGMA**2) + 0.5 * (x**2).sum()).backward()
        return x.grad

    difference = np.abs(run().numpy() - np.asarray(expected)).max()
    if difference > 0.02 * float(jnp.abs(expected).max()):
        raise AssertionError(f"gradients differ by {difference}")
    return run, "torch"


if __name__ == "__main__":
    main()
