"""PADDIT: population template and posterior samples of deformations (Orbes-Arteaga et al. 2019).

    bin/train --config configs/paddit.py:cpu --workdir work/paddit
    bin/evaluate --workdir work/paddit
    bin/sample --workdir work/paddit --count 8 --output work/paddit_samples
    bin/train --config configs/paddit.py:cpu,data=label_maps --data LABEL_MAPS --workdir work/brains

One step is one iteration of Monte-Carlo EM over all training subjects (the batch): 8 towards the
modes, 2 with samples, then 2 with everything frozen, the last of which gives the posterior samples
(label maps: 6, 1 and 1, with fewer transitions).
`atlas/` in the work folder gets template, variance, labels and modes.

Sizes:
    cpu  6 subjects 64^2 (brain-like phantoms of 4 hidden modes), or 4 mm label maps
    gpu  16 subjects 48^3
    pod  64 subjects 128^3, band-limited

Options:
    arm    paddit (HMC), map (modes only: PADDIT-MAP)
    flow   stationary (group exponential), geodesic (shooting)
    field  wendland, bspline (control points every 8 voxels; not for geodesics), band, dense
    data   population, label_maps (a folder of FreeSurfer label maps, tissues as channels)
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config, parse_argument

OPTIONS = {
    "arm": ("paddit", "map"),
    "flow": ("stationary", "geodesic"),
    "field": ("wendland", "bspline", "band", "dense"),
    "data": ("population", "label_maps"),
}


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, OPTIONS)
    size, maps = chosen["size"], chosen["data"] == "label_maps"
    config = load_config(f"unet:{size},arm=none").unlock()
    subjects = 12 if maps else {"cpu": 6, "gpu": 16, "pod": 64}[size]
    volumes = maps or size != "cpu"
    field = chosen["field"]
    if field == "wendland" and (size == "pod" or chosen["flow"] == "geodesic"):
        field = "band"
    config.update(
        system="jaxmedgen.systems.deformation.paddit",
        steps=12,
        batch_size=subjects,
        log_every=1,
        eval_every=0 if maps else 12,
        checkpoint_every=1,
        patch_size=(),
    )
    config.data.update(
        kind="population",
        shape={"cpu": (64, 64), "gpu": (48, 48, 48), "pod": (128, 128, 128)}[size],
        train=subjects,
        validation=0 if maps else 4,
        test=0 if maps else 8,
    )
    if maps:
        fine = load_config("synthseg:cpu")
        config.data.update(
            kind="folder",
            label_map="freesurfer",
            target_of=fine.data.target_of,
            target_names=fine.data.target_names,
            spacing="4",
            shape=(40, 52, 44),
            crop_to_nonzero=True,
            test=4,
        )
        config.steps = 8
    config.parallel.space = 1
    map_only = chosen["arm"] == "map"
    mass = "template" if volumes else "curvature"
    if field in ("band", "dense"):
        mass = "prior"
    config.model = ConfigDict(
        {
            "sampler": "map" if map_only else "hmc",
            "rounds": 7 if maps else 10,
            "map_rounds": 6 if maps else 8,
            # Relative change of the template that ends either phase early, such as 1e-3; 0: never.
            "tolerance": 0.0,
            "compared": (0,),  # image channels of the likelihood
            "smoothing": 1.0,  # voxels, of what is compared; then the temperature is 1
            # Tissues do not misfit voxel by voxel, as noise does.
            "temperature": 10.0 if maps else 1.0,
            "deviation": 2.0,  # of the prior's velocity, in voxels
            "fit_prior": False,
            "alpha_rate": 0.0,
            "velocity": {  # ops/velocity_flows.py
                "flow": chosen["flow"],
                "parametrisation": field,
                "control_spacing": 8,
                "support": 2.5,
                "band": 15,
                "alpha": 30.0,
                "gamma": 1.0,
                "power": 3,
                "padding": 4 if chosen["flow"] == "geodesic" else 0,
                "squarings": 5 if maps else 6,
                "shooting_steps": 10,
            },
            "sampling": {  # systems/deformation/paddit_em.py
                "map_steps": 25 if maps else 40,
                "map_rate": 0.2,
                "chains": 1 if map_only or volumes else 2,
                "draws": 1 if map_only else 20,
                "thinning": 2 if maps else 5,
                "leapfrog_steps": 5 if maps else 10,
                "target": 0.75,
                "step_size": 0.2,
                # prior: mass L alone, any number of coordinates
                "mass": mass,
            },
        }
    )
    return config
