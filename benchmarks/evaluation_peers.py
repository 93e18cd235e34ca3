"""The numbers of the image and set metrics beside torch-fidelity's and MONAI's.

    python benchmarks/evaluation_peers.py

No speed is measured: every line is a metric, our number, the peer's, and their difference; a
difference above its bound ends with an error. FID's Inception and RadImageNet's ResNet are compared
with random weights, since the trained ones must be downloaded.
"""

import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import torch
from monai.metrics.fid import get_fid_score
from monai.metrics.mmd import compute_mmd
from monai.metrics.regression import (
    MultiScaleSSIMMetric,
    PSNRMetric,
    SSIMMetric,
)

from jaxmedgen.metrics.frechet import fid
from jaxmedgen.metrics.image_quality import ms_ssim, psnr, ssim
from jaxmedgen.metrics.inception_score import inception_score
from jaxmedgen.metrics.kernel_distance import kid, mmd
from jaxmedgen.metrics.manifold import manifold
from jaxmedgen.metrics.perceptual_distance import lpips_uncalibrated
from jaxmedgen.nets.pretrained import pretrained_extractor


def main() -> None:
    """Compares all metrics."""
    jax.config.update("jax_default_matmul_precision", "highest")
    set_metrics()
    image_metrics()
    networks()


def check(name: str, ours: float, theirs: float, bound: float) -> None:
    """One line; ends the program if the numbers differ by more than `bound`."""
    difference = abs(ours - theirs)
    print(f"{name:42} {ours:14.8f} {theirs:14.8f}   {difference:.1e}")
    if not difference <= bound:
        raise SystemExit(f"error: {name} differs by {difference}, more than {bound}")


def set_metrics() -> None:
    """FID, KID, MMD, inception score, precision and recall."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kernel_mmd
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(600, 48)), rng.normal(0.2, 1.1, (600, 48))
    tensors = [torch.from_numpy(x) for x in (fake, real)]
    stats = [fid_features_to_statistics(t) for t in tensors]
    theirs = fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    check("FID, torch-fidelity", fid(real, fake), theirs, 1e-8)
    check("FID, MONAI", fid(real, fake), float(get_fid_score(*tensors)), 1e-6)
    settings = {
        "kid_kernel": "poly",
        "kid_kernel_poly_degree": 3,
        "kid_kernel_poly_gamma": None,
        "kid_kernel_poly_coef0": 1,
        "kid_kernel_rbf_sigma": 5.0,
    }
    check("KID, torch-fidelity", kid(real, fake).mean, kernel_mmd(fake, real, **settings), 1e-9)
    settings["kid_kernel"] = "rbf"
    ours = mmd(real, fake, kernel="gaussian", bandwidth=5.0)
    check("MMD, Gaussian, torch-fidelity", ours, kernel_mmd(fake, real, **settings), 1e-9)
    ours = mmd(real, fake, kernel="linear")
    check("MMD, linear, MONAI", ours, float(compute_mmd(*tensors, None)), 1e-9)
    precision, recall = calculate_precision_recall_full(*tensors, neighborhood=5)
    found = manifold(real, fake, neighbours=5)
    check("precision, torch-fidelity", found.precision, precision, 1e-6)
    check("recall, torch-fidelity", found.recall, recall, 1e-6)
    logits = torch.from_numpy(rng.normal(0, 3, (500, 10)))
    theirs = isc_features_to_metric(logits, splits=1)["inception_score_mean"]
    ours = inception_score(logits.softmax(1).numpy(), splits=1).mean
    check("inception score, torch-fidelity", ours, theirs, 1e-8)


def image_metrics() -> None:
    """SSIM in two and three dimensions, MS-SSIM, PSNR."""
    rng = np.random.default_rng(1)
    for shape in ((70, 64), (24, 30, 28)):
        x, y = _pair(rng, shape)
        peer = SSIMMetric(len(shape), data_range=1.0)
        theirs = float(peer(_torch(x), _torch(y))[0, 0])
        ours = float(ssim(jnp.asarray(x), jnp.asarray(y), data_range=1.0)[0])
        check(f"SSIM {len(shape)}D, MONAI", ours, theirs, 1e-5)
    x, y = _pair(rng, (180, 190))
    theirs = float(MultiScaleSSIMMetric(2, data_range=1.0)(_torch(x), _torch(y))[0, 0])
    ours = float(ms_ssim(jnp.asarray(x), jnp.asarray(y), data_range=1.0)[0])
    check("MS-SSIM, 5 scales, MONAI", ours, theirs, 1e-5)
    theirs = float(PSNRMetric(max_val=1.0)(_torch(x), _torch(y))[0, 0])
    check(
        "PSNR, MONAI", float(psnr(jnp.asarray(x), jnp.asarray(y), data_range=1.0)[0]), theirs, 1e-4
    )


def networks() -> None:
    """Inception-v3, ResNet-50 and VGG-16 with the same random weights; LPIPS' sum on the last."""
    import torchvision
    from torch_fidelity.sample_similarity_lpips import normalize_tensor

    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (2, 3, 75, 75), dtype=np.uint8)
    x = jnp.asarray(image.transpose(0, 2, 3, 1) / 255, jnp.float32)
    folder = pathlib.Path(tempfile.mkdtemp())
    torch.manual_seed(0)
    peer = _random_inception()
    theirs = peer(torch.from_numpy(image))[0].numpy()
    ours = _features("inception_v3", peer, folder, x)
    _close("Inception-v3, 2048 features, torch-fidelity", ours, theirs)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    normalized = (torch.from_numpy(image / 255).float() - mean) / deviation
    for name, model in (
        ("resnet18", torchvision.models.resnet18(weights=None)),
        ("resnet50", torchvision.models.resnet50(weights=None)),
    ):
        _with_statistics(model)
        resized = torch.nn.functional.interpolate(normalized, (224, 224), mode="bilinear")
        with torch.no_grad():
            body = torch.nn.Sequential(*list(model.children())[:-1])
            theirs = body(resized).flatten(1).numpy()
        _close(f"{name} features, torchvision", _features(name, model, folder, x), theirs)
    for name, model, cuts in (
        ("vgg16", torchvision.models.vgg16(weights=None), {3, 8, 15, 22, 29}),
        ("alexnet", torchvision.models.alexnet(weights=None), {1, 4, 7, 9, 11}),
    ):
        with torch.no_grad():
            maps, value = [], normalized
            for number, layer in enumerate(model.eval().features):
                value = layer(value)
                maps += [value.clone()] if number in cuts else []
        pairs = ((normalize_tensor(m[:1]), normalize_tensor(m[1:])) for m in maps)
        theirs = float(sum(((a - b) ** 2).sum(1).mean() for a, b in pairs))
        extractor = _extractor(name, model, folder)
        ours = float(lpips_uncalibrated(extractor.maps(x[:1]), extractor.maps(x[1:]))[0])
        check(f"LPIPS without weights, {name}", ours, theirs, 1e-4 * theirs)


def _features(name, model, folder, x) -> np.ndarray:
    return np.asarray(_extractor(name, model, folder).features(x))


def _extractor(name, model, folder):
    path = folder / f"{name}.npz"
    np.savez(path, **{k: v.numpy() for k, v in model.state_dict().items()})
    return pretrained_extractor(name, path)


def _close(name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    worst = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    print(f"{name:42} {ours.mean():14.8f} {theirs.mean():14.8f}   {worst:.1e} (largest, relative)")
    if not worst < 1e-4:
        raise SystemExit(f"error: {name} differs by {worst} of the largest value")


def _random_inception() -> torch.nn.Module:
    """torch-fidelity's Inception as PyTorch initialises it: the trained weights are a download."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    class Untrained(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            """Keeps the initial weights."""

    loader, module.load_state_dict_from_url = module.load_state_dict_from_url, lambda *_, **__: {}
    try:
        return _with_statistics(Untrained("untrained", ["2048"]))
    finally:
        module.load_state_dict_from_url = loader


def _with_statistics(model: torch.nn.Module) -> torch.nn.Module:
    """Batch norms with running statistics and scales that are not those of initialisation."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_var.uniform_(0.5, 1.5)
            layer.running_mean.normal_(0, 0.1)
            layer.weight.data.uniform_(0.8, 1.2)
            layer.bias.data.normal_(0, 0.1)
    return model.eval()


def _pair(rng, shape):
    x = rng.uniform(0, 1, (1, *shape, 1)).astype(np.float32)
    return x, np.clip(x + 0.2 * rng.normal(size=x.shape), 0, 1).astype(np.float32)


def _torch(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy())


if __name__ == "__main__":
    main()
