"""Group-equivariant segmentation: symmetry in the network, in the data, or in the prediction.

    bin/train --config configs/gcnn_unet.py:cpu --workdir work/gcnn
    bin/train --config configs/gcnn_unet.py:cpu,arm=baseline --workdir work/gcnn_baseline
    bin/train --config configs/gcnn_unet.py:gpu,arm=c4_parameters --data /brats --workdir work/c4
    bin/reproduce gcnn_unet
    bin/reproduce gcnn_pose
    bin/reproduce gcnn_truncated
    bin/reproduce gcnn_textures

The data are ellipsoidal brains with bars (class 1) and L-shapes (class 2) of equal brightness. By
default training lesions have one pose and test lesions are turned by right angles, which networks
without the symmetry do not survive. `bin/train --data` takes a folder of scans instead.

Sizes:
    cpu  8 volumes of 24^3, 8 base filters, depth 2, batch 4, 300 steps; a minute or two on a core,
         10 for `o`
    gpu  patches of 96^3, 12 base filters, depth 4, batch 2, bf16, 37500 steps: 300 epochs of 250
         patches
    pod  the same at batch 64, rematerialised, the depth axis split over 2 devices, 1200 steps

Arms: baseline (no symmetry); baseline_wide (twice as many filters: the feature maps of
c4_parameters, four times its parameters); c4_features, c4_parameters, c4_filters (C4 with as many
feature channels, parameters, filters as the baseline); c4_axis0, c4_axis1, c4_axis2 (C4 about
another axis); d4, v, t, o, oh (matched parameters); o_features; baseline_rotation and
baseline_average (the baseline with random turns in training, and averaged over turns in prediction;
`group=` says which); baseline_generic (the baseline with nnU-Net's augmentation); steerable (the
irrep U-Net).
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config, parse_argument

# group, axis, and which count equals the baseline's
NETWORKS = {
    "o": ("O", -1, "parameters"),
    "baseline": ("trivial", -1, "filters"),
    "baseline_wide": ("trivial", -1, "filters"),
    "baseline_rotation": ("trivial", -1, "filters"),
    "baseline_average": ("trivial", -1, "filters"),
    "baseline_generic": ("trivial", -1, "filters"),
    "c4_features": ("C4", -1, "features"),
    "c4_parameters": ("C4", -1, "parameters"),
    "c4_filters": ("C4", -1, "filters"),
    "c4_axis0": ("C4", 0, "parameters"),
    "c4_axis1": ("C4", 1, "parameters"),
    "c4_axis2": ("C4", 2, "parameters"),
    "d4": ("D4", -1, "parameters"),
    "v": ("V", -1, "parameters"),
    "t": ("T", -1, "parameters"),
    "oh": ("Oh", -1, "parameters"),
    "o_features": ("O", -1, "features"),
}
ARMS = (*NETWORKS, "steerable")
GROUPS = ("O", "C4", "V", "D4", "T", "Oh")


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, {"arm": ARMS, "group": GROUPS})
    size, arm, group = chosen["size"], chosen["arm"], chosen["group"]
    large, pod = size != "cpu", size == "pod"
    config = load_config(f"unet:{size},arm=none").unlock()
    config.system = "jaxmedgen.systems.segmentation.gcnn_unet"
    config.update(
        steps={"cpu": 300, "gpu": 37500, "pod": 1200}[size],
        batch_size={"cpu": 4, "gpu": 2, "pod": 64}[size],
        eval_every=1000 if large else 100,
        checkpoint_every=1000 if large else 100,
        patch_size=(96, 96, 96) if large else (24, 24, 24),
    )
    config.net = _network(arm, size)
    if arm == "baseline_average":
        config.net.average_over = group
    config.optimizer.update(
        kind="adam", learning_rate=1e-3, warmup=0, weight_decay=0.0, end=1e-5, clip_norm=1.0
    )
    if not large:  # a run this short needs a larger rate
        config.optimizer.learning_rate = 3e-3
    config.augment.update(
        preset="nnunet3d" if arm == "baseline_generic" else "none",
        group=group if arm == "baseline_rotation" else "",
    )
    config.data.update(
        kind="rotated_lesions",
        shape=(96, 96, 96) if large else (24, 24, 24),
        train=100 if large else 8,
        validation=20 if large else 4,
        test=50 if large else 16,
        train_pose="canonical",  # canonical | axis | random
        test_pose="axis",
    )
    config.parallel.space = 2 if pod else 1
    return config


def _network(arm: str, size: str) -> ConfigDict:
    large = size != "cpu"
    if arm == "steerable":
        return ConfigDict(
            {
                "kind": "steerable",
                "average_over": "",
                "average_of": "logits",
                "multiplicity": 2,
                "depth": 2,
                "kernel_size": 5,
                "degree": 2,
                "pool": "mean",
                "dropout": 0.0,
            }
        )
    name, axis, matched = NETWORKS[arm]
    return ConfigDict(
        {
            "kind": "group",
            "group": name,
            "axis": axis,
            "average_over": "",  # group that predictions are averaged over
            "average_of": "logits",  # logits | probabilities
            "base_filters": 12 if large else 8,  # of the baseline
            "matched": matched,  # features | parameters | filters, what equals the baseline's
            "depth": 4 if large else 2,
            "c_factor": 4.0 if arm == "baseline_wide" else 1.0,
            "out_act": "softmax",
            "kernel_reg": 1e-6,
            "LReLU_alpha": 0.01,
            "kernel_size": 3,
            "max_pool": 2,
            "dropout": 0.2 if large else 0.0,  # 8 channels are too few to drop some of them
            "padding": "same",
            "rotation_params": (False,),
            "blur_params": (False,),
            "transform_params": (False,),
            "cut_off": 0.9,
            "trainable": True,
            "label_smoothing": False,
            "label_smoothing_neighbours": 5,
            "val_samples": 1,
            "norm": "batch" if size != "gpu" else "instance",  # instance for batches up to 2
            "reduce": "mean",
            "head_features": 0,  # channels before the group is pooled; 0: those of the decoder
            "upsample": "nearest",
            "remat": size == "pod",
            "dtype": "bfloat16" if large else "float32",
        }
    )
