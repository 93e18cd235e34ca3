"""GenSeg's terms beside its published core: places, exchanged findings, features, weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.nets.genseg import Translations
from jaxmedgen.nets.genseg_encoder import Skip
from jaxmedgen.systems.base import build_system
from jaxmedgen.systems.translation.genseg_inputs import exchanges
from jaxmedgen.systems.translation.genseg_sides import sides
from jaxmedgen.systems.translation.genseg_terms import (
    Stage,
    Weights,
    feature_difference,
    found_place,
    four_stages,
    weights_at,
)
from jaxmedgen.train.objectives import LossInputs

QUICKLY = {"xla_backend_optimization_level": 0}
SMALL = {
    "net.features": "(4, 8)",
    "net.unique": "2",
    "net.residual_taps": "3",
    "net.discriminator": "(4,)",
    "net.scales": "1",
    "net.spectral": "False",
}


def system_of(argument, classes, **overrides):
    config = load_config(f"genseg:cpu,{argument}", SMALL | overrides)
    names = ("background", *(f"finding{k}" for k in range(classes)))
    return build_system(config, DatasetInfo(names, ("ink",), (1.0, 1.0), ()))


def test_weights_keep_their_ratios():
    old = Weights()
    new = old.rescaled(10)
    assert sum(vars(new).values()) == pytest.approx(10)
    assert new.image / new.segmentation == pytest.approx(old.image / old.segmentation)
    system = system_of("", 1, **{"loss.weight_sum": "10.0"})
    assert system.stages[0].weights == new
    with pytest.raises(ValueError, match="all zero"):
        Weights(0, 0, 0, 0, 0).rescaled(1)


def test_weights_follow_the_stages():
    stages = four_stages(100)
    found = [jax.jit(lambda s: weights_at(stages, s))(step) for step in (0, 24, 25, 50, 75, 99)]
    assert [float(w["image"]) for w in found] == [1, 1, 50, 50, 0, 0]
    assert [float(w["adversarial"]) for w in found] == [0, 0, 3, 3, 0, 0]
    assert [float(w["segmentation"]) for w in found] == [0, 0, 0, 1, 1, 1]
    assert weights_at((Stage(0, Weights()),), 3)["segmentation"] == 0.01
    own = four_stages(100, Weights(image=20.0, information=0.1, place=10.0))
    found = [weights_at(own, step) for step in (24, 49, 74, 99)]
    for name, values in (("image", [1, 20, 20, 0]), ("place", [0, 10, 10, 0])):
        assert [float(w[name]) for w in found] == values
    assert [round(float(w["information"]), 6) for w in found] == [0, 0.1, 0.1, 0]


def test_another_finding_takes_the_place_of_each():
    domain = jnp.arange(300) % 3
    keys = jax.random.split(jax.random.key(0), 300)
    found = exchanges({"domain": domain}, keys, 3, (2, 2))
    other, exchange = np.asarray(found["other"]), np.asarray(found["exchange"])
    assert (other != np.asarray(domain)).all() and set(other) == {0, 1, 2}
    for k in range(3):  # either of the two others about as often
        counts = np.bincount(other[np.asarray(domain) == k], minlength=3)
        assert counts[k] == 0 and counts.max() < 70
    assert abs(exchange.mean()) < 0.1 and abs(exchange.std() - 1) < 0.1


def test_an_exchanged_finding_is_a_residual_of_its_own_domain():
    """``x_PQ = D_c(c_P) + D_u(c_P, u_j, e_j)``, with the skips of P."""
    system = system_of("arm=multi_domain,switch=layer", 2)
    net = system.net
    present, absent = jax.random.normal(jax.random.key(0), (2, 3, 8, 8, 1))
    prior, exchange = jax.random.normal(jax.random.key(1), (2, 3, 4, 4, 1))
    domain, other = jnp.array([0, 1, 1]), jnp.array([1, 0, 0])

    def both(key):
        weights = net.init(key, present[:1])
        made = net.apply(
            weights, present, absent, prior, domain, other, exchange, method="translate"
        )
        code, skips = net.apply(weights, present, method="encode")
        common, _ = net.parts(code)
        removed = net.apply(weights, code, skips, method="remove")
        added, own = (
            net.apply(weights, common, exchange, skips, kinds, method="residue")
            for kinds in (other, domain)
        )
        return made.x_pq, removed + added, removed + own

    found, expected, wrong = jax.jit(both, compiler_options=QUICKLY)(jax.random.key(2))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - wrong).max() > 1e-2


def test_translations_lie_where_their_images_do():
    batch = {
        "image": jnp.full((2, 4, 4, 1), 1.0),
        "absent": jnp.full((2, 4, 4, 1), 2.0),
        "domain": jnp.array([0, 1]),
        "other": jnp.array([1, 0]),
        "place": jnp.array([0.1, 0.2]),
        "absent_place": jnp.array([0.3, 0.4]),
    }
    blank = {name: jnp.zeros((2, 4, 4, 1)) for name in Translations._fields}
    blank |= {"x_pa": 3 + blank["x_pa"], "x_ap": 4 + blank["x_ap"], "x_pq": 5 + blank["x_pq"]}
    found = sides(batch, Translations(**blank), placed=True)
    presence, absence = found["presence"], found["absence"]
    assert absence.images[:, 0, 0, 0].tolist() == [2, 2, 3, 3]
    np.testing.assert_allclose(absence.place, [0.3, 0.4, 0.1, 0.2])
    assert presence.images[:, 0, 0, 0].tolist() == [1, 1, 4, 4, 5, 5]
    np.testing.assert_allclose(presence.place, [0.1, 0.2, 0.3, 0.4, 0.1, 0.2])
    assert presence.domain.tolist() == [0, 1, 0, 1, 1, 0]
    images, domain, place = presence.part(real=False)
    assert len(images) == len(domain) == len(place) == 4


def test_features_are_compared_with_those_of_the_same_image():
    def maps(value, count):
        return tuple(Skip(jnp.full((count, s, s, 1), value), None) for s in (4, 2))

    blank = {name: jnp.zeros((2, 4, 4, 1)) for name in Translations._fields}
    made = Translations(**blank | {"skips_p": maps(1.0, 2), "skips_a": maps(5.0, 2)})
    again = tuple(  # of x_PA, x_AA, x_PP
        Skip(jnp.concatenate([a.features, b.features, c.features]), None)
        for a, b, c in zip(maps(9.0, 2), maps(5.5, 2), maps(1.25, 2))
    )
    assert float(feature_difference(made, again)) == pytest.approx(0.75)
    logits = [jnp.array([[[0.0, 2.0]], [[-1.0, -1.0]]])]
    np.testing.assert_allclose(found_place(logits), [1 / (1 + np.exp(-1)), 1 / (1 + np.e)], 1e-6)


def test_discriminators_and_locators_of_slices():
    """What a place changes, by abstract evaluation; data without places are refused."""
    overrides = {"net.placed": "True", "loss.weights.place": "10.0", "loss.weights.features": "1.0"}
    system = system_of("", 1, **overrides)
    assert [o.name for o in system.objectives()] == ["discriminator", "locator", "generator"]
    zeros = jnp.zeros((2, 8, 8, 1))
    batch = {"image": zeros, "absent": zeros, "label": jnp.zeros((2, 8, 8), jnp.int32)}
    keys = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(ValueError, match="does not tell where its slices lie"):
        system.prepare(batch, keys)
    batch |= {"place": jnp.zeros(2), "absent_place": jnp.ones(2)}

    def step(batch):
        state = system.init(keys[0], batch)
        variables = {n: p.evaluation_variables() for n, p in state.players.items()}
        inputs = LossInputs(variables, {}, system.prepare(batch, keys), keys, keys[0], state.step)
        return variables, [o.loss(inputs) for o in system.objectives()]

    variables, found = jax.eval_shape(step, batch)
    assert all(loss.shape == () for loss, _ in found)
    assert {"place", "features"} <= set(found[-1][1].metrics)
    first = jax.tree.leaves(variables["discriminator"]["params"]["absence"])
    assert any(leaf.shape == (4, 4, 2, 4) for leaf in first)  # image and place
    other = jax.tree.leaves(variables["locator"]["params"]["absence"])
    assert any(leaf.shape == (4, 4, 1, 4) for leaf in other)


def by_hand(system, weights, batch):
    """Latent terms, joint and separate, and both cycles, every image encoded by itself."""
    net = system.net

    def run(*args, method):
        return net.apply(weights, *args, method=method)

    def encode(x):
        code, skips = run(x, method="encode")
        return code, *net.parts(code), skips

    present, absent, prior, domain = (batch[n] for n in ("image", "absent", "prior", "domain"))
    p, c_p, u_p, skips_p = encode(present)
    a, c_a, _, skips_a = encode(absent)
    x_pa, x_aa = run(p, skips_p, method="remove"), run(a, skips_a, method="remove")
    x_pp = x_pa + run(c_p, u_p, skips_p, domain, method="residue")
    x_ap = x_aa + run(c_a, prior, skips_a, domain, method="residue")
    pa, c_pa, _, skips_pa = encode(x_pa)
    _, c_aa, _, _ = encode(x_aa)
    pp, c_pp, u_pp, _ = encode(x_pp)
    ap, c_ap, u_ap, skips_ap = encode(x_ap)

    def distance(x, y):
        return jnp.abs(x - y).mean()

    alike = distance(c_p, c_pa) + distance(c_a, c_aa)
    whole = distance(p, pp) + distance(jnp.concatenate([c_a, prior], -1), ap)
    parts = distance(c_a, c_ap) + distance(c_p, c_pp) + distance(u_p, u_pp) + distance(prior, u_ap)
    back = run(pa, skips_pa, method="remove") + run(c_pa, u_p, skips_pa, domain, method="residue")
    cycles = {
        "apa": distance(absent, run(ap, skips_ap, method="remove")),
        "pap": distance(present, back),
    }
    return {True: alike + whole, False: alike + parts}, cycles


def test_codes_and_cycles_by_hand():
    """Which codes are compared with which, and with whose skips images are translated back."""
    keys = jax.random.split(jax.random.key(0), 4)
    image, absent = jax.random.normal(keys[0], (2, 3, 8, 8, 1))
    batch = {"image": image, "absent": absent, "prior": jax.random.normal(keys[1], (3, 4, 4, 2))}
    batch |= {"domain": jnp.zeros(3, jnp.int32)}
    variants = {(c, j): system_of(f"cycle={c}", 1, **{"loss.joint_latent": str(j)})
                for c, j in (("apa", True), ("pap", False))}  # fmt: skip
    one = variants["apa", True]

    def both(key):
        args = tuple(batch[n] for n in ("image", "absent", "prior", "domain"))
        weights = one.net.init(key, image[:1])
        made = one.net.apply(weights, *args, method="translate")
        inputs = LossInputs({"generator": weights}, {}, batch, keys[:3], key, jnp.zeros((), int))
        found = {name: s._code_terms(inputs, made) for name, s in variants.items()}
        return found, by_hand(one, weights, batch)

    found, (latent, cycles) = jax.jit(both, compiler_options=QUICKLY)(keys[3])
    assert latent[True] != latent[False] and cycles["apa"] != cycles["pap"]
    for (cycle, joint), terms in found.items():
        np.testing.assert_allclose(terms["latent"], latent[joint], rtol=1e-4)
        np.testing.assert_allclose(terms["cycle"], cycles[cycle], rtol=1e-4)


def test_what_guesses_learns_and_what_it_reads_unlearns():
    """Gradient reversal: R descends on its error, the encoder ascends, by a weight that rises."""
    system = system_of("arm=reversal", 1)
    image = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    target = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))

    def gradients(key, step):
        weights = system.net.init(key, image[:1])
        code, skips = system.net.apply(weights, image, method="encode")
        start = system.net.parts(code)[1]
        guesser = system.reversal.init(key, start, skips)

        def term(guesser, unique):
            whole = jnp.concatenate([system.net.parts(code)[0], unique], -1)
            blank = dict.fromkeys(Translations._fields)
            made = Translations(**blank | {"code_p": whole, "skips_p": skips, "x_pa": target})
            inputs = LossInputs({"reversal": guesser}, {}, {}, key, key, step)
            return system._reverse(inputs, made)

        def plain(guesser, unique):
            return jnp.abs(target - system.reversal.apply(guesser, unique, skips)).mean()

        return [jax.grad(f, (0, 1))(guesser, start) for f in (term, plain)]

    run = jax.jit(gradients, compiler_options=QUICKLY)
    ramp = system.reversal_ramp
    for share, step in ((100 / ramp, 100), (1.0, 2 * ramp)):
        (learns, reversed_), (down, up) = run(jax.random.key(2), jnp.asarray(step))
        for a, b in zip(jax.tree.leaves(learns), jax.tree.leaves(down)):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(reversed_, -0.1 * share * up, rtol=1e-3, atol=1e-9)
