"""VAE of ventricles with a classifier on its latent vector (Biffi et al., MICCAI 2018).

    bin/reproduce hcm_vae
    bin/train --config configs/hcm_vae.py:cpu --workdir work/hcm_vae
    bin/train --config configs/hcm_vae.py:cpu,arm=cnn --workdir work/hcm_cnn
    bin/evaluate --workdir work/hcm_vae
    bin/sample --workdir work/hcm_vae --method navigate --output work/walk

Sizes:
    cpu  ventricles 32^3, ED and ES (240), channels 8-16-32, 64 dimensions, batch 8, 1000 steps;
         some minutes on one core, expected accuracy 0.9
    gpu  80^3, the published network: batch 16, 96,000 steps at rate 1e-4
    pod  the same at batch 128

Arms:
    vae-mlp     VAE and classifier, trained together
    two-stage   the classifier's loss does not reach the encoder
    beta0       no classifier
    ae-mlp      autoencoder and classifier: nothing drawn, no Kullback-Leibler term
    cnn         encoder and classifier alone

`bin/reproduce hcm_vae` compares them with principal components and clinical indices. The model is
the ladder of configs/lvae.py with one level; that file says how to train on a folder of label maps.
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config, parse_argument

ARMS = ("vae-mlp", "two-stage", "beta0", "ae-mlp", "cnn")
DATA = ("left_ventricle", "folder")


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, {"arm": ARMS, "data": DATA})
    size, arm = chosen["size"], chosen["arm"]
    large = size != "cpu"
    config = load_config(f"lvae:{size},arm=vae64,data={chosen['data']}").unlock()
    config.net.momentum = 0.99 if large else 0.9
    criterion = config.criterion
    stochastic = arm in ("vae-mlp", "two-stage", "beta0")
    criterion.divergence = ((0.1 if large else 0.002) if stochastic else 0.0,)
    criterion.classification = 0.0 if arm == "beta0" else (1.0 if large else 0.1)
    criterion.ramp, criterion.ramp_steps = 1.0, 0
    criterion.predict_from = "mean"
    criterion.stochastic = stochastic
    criterion.reconstruction = arm != "cnn"
    criterion.joint = arm != "two-stage"
    if large:
        config.steps = 96_000
        config.eval_every = 1000
        config.optimizer.schedule = "constant"
    elif arm == "two-stage":
        config.optimizer.share = 0.7  # then its encoder rests, and the classifier goes on
    return config
