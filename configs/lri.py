"""Texture classification with locally rotation-invariant layers (Andrearczyk et al. 2019).

    bin/train --config configs/lri.py:cpu --workdir work/lri
    bin/train --config configs/lri.py:cpu,arm=s,rotations=1 --workdir work/lri_s1

Cubes filled with bars and crosses at random rotations, in two mixtures; chance is an accuracy of
0.5. `bin/reproduce gcnn_textures` compares the layers on test cubes.

Sizes:
    cpu  128 cubes of 20^3, 7 taps, 800 steps of 16; about a minute on 2 cores
    gpu  800 cubes of 32^3, 50000 steps of 16, as published (there with degree=1)
    pod  the same at batch 64

Arms: ssb (bispectrum), sse (power spectrum), s (maximum over `rotations=` 1, 4, 24 or 72 steered
copies), g (maximum over 24 turned copies of an ordinary kernel), plain (ordinary 3^3 kernels, as
many parameters as ssb); cube-v, cube-t, cube-o: CubeNet's classifier of group convolutions over V,
T, O, and cube, the same without a group.
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config, parse_argument

ARMS = ("ssb", "sse", "s", "g", "plain", "cube", "cube-v", "cube-t", "cube-o")
GROUPS = {"cube": "trivial", "cube-v": "V", "cube-t": "T", "cube-o": "O"}
ROTATIONS = ("24", "1", "4", "72")
DEGREES = ("2", "1")


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, {"arm": ARMS, "rotations": ROTATIONS, "degree": DEGREES})
    size, arm = chosen["size"], chosen["arm"]
    large = size != "cpu"
    config = load_config(f"unet:{size},arm=none").unlock()
    config.system = "jaxmedgen.systems.representation.lri"
    config.update(
        steps=50000 if large else 800,
        batch_size=64 if size == "pod" else 16,
        eval_every=0,
        checkpoint_every=1000 if large else 200,
        patch_size=(),
    )
    config.net = ConfigDict(
        {
            "kind": arm,
            "filters": 3 if arm == "plain" else 2,
            "kernel_size": 3 if arm == "plain" else 7,
            "degree": int(chosen["degree"]),
            "rotations": int(chosen["rotations"]),
            "polar_separable": False,
        }
    )
    if arm in GROUPS:
        config.net = ConfigDict(
            {
                "kind": "cubenet",
                "group": GROUPS[arm],
                "channels": 48 if large else 24,  # in all; divided by the group's order
                "kernel_size": 5 if large else 3,  # of the first convolution
                "stages": 5,
                "hidden": 512,
                "dropout": 0.5,
                "norm": "batch",
                "kernel_noise": 0.0,
            }
        )
    config.optimizer.update(
        kind="adam",
        learning_rate=1e-3 if large else 1e-2,
        schedule="constant" if large else "cosine",
        warmup=0,
        clip_norm=0.0 if large else 1.0,
        weight_decay=0.0,
        ema_decay=0.0,
        b1=0.99 if large else 0.9,
        b2=0.9999 if large else 0.999,
    )
    config.data.update(
        kind="textures",
        shape=(32, 32, 32) if large else (20, 20, 20),
        train=800 if large else 128,
        validation=0,
        test=200,
    )
    config.parallel.space = 1
    return config
