"""Ablation on brain label maps whose scans are simulated: a contrast family is held out.

    bin/ablate --config configs/heldout_contrast.py --data LABEL_MAPS --labelled 4,12 --seeds 2 \
        --arms none,classic,diffeomorphic,synthesis --workdir work/heldout

Training scans look T1-weighted, test scans T2-weighted (`jaxmedgen/data/simulated.py`). The folder
holds FreeSurfer label maps as for `configs/synthseg.py`; 4 subjects are kept for testing.
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config, parse_argument


def get_config(argument: str = "") -> ConfigDict:
    size = parse_argument(argument, {})["size"]
    config = load_config(f"ablation:{size}").unlock()
    maps = load_config("synthseg:cpu")
    config.data.update(
        label_map=maps.data.label_map,
        target_of=maps.data.target_of,
        target_names=maps.data.target_names,
        train_contrast="t1",
        test_contrast="t2",
        train=0,
        validation=0,
        test=4,
        spacing="4" if size == "cpu" else "2",
        # 160 x 208 x 192 mm (right, anterior, superior) round the middle of the field of view
        shape=(40, 52, 48) if size == "cpu" else (80, 104, 96),
    )
    config.update(steps=600 if size == "cpu" else 5000, eval_every=0)
    config.augment.synthesis.update(maps.augment.synthesis)
    return config
