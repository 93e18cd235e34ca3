"""FID of 10,000 feature vectors against torch-fidelity's arithmetic and MONAI's.

    python benchmarks/frechet.py --count 10000 --dimension 2048 --rounds 3

All sides start from the same float64 features of two sets and end with one number: two means, two
covariances, one trace of a matrix root. torch-fidelity (0.4) takes eigenvalues of the product of
the covariances, MONAI the matrix root of it (scipy), ours the eigenvalues of a symmetric matrix
after a Cholesky factorisation. The sides take turns in one process with the same number of threads;
the median over the rounds of the ratio of neighbours is what counts. Prints a table and one line of
JSON; the numbers must agree to 1e-6 of the traces.
"""

import argparse
import json
import os
import statistics
import time

import numpy as np


def main() -> None:
    """Measures all sides that are installed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves the libraries' own number")
    args = parser.parse_args()
    if args.threads:  # before the libraries are loaded
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(args.threads)
    sides = _sides()
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(args.dimension, args.dimension)) / np.sqrt(args.dimension)
    # Means of rectified activations, as Inception's features are.
    real, generated = (
        np.maximum(rng.normal(s, 1, (args.count, args.dimension)) @ mixing, 0) for s in (0.0, 0.1)
    )
    times, found = {name: [] for name in sides}, {}
    for _ in range(args.rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            found[name] = side(real, generated)
            times[name].append(time.perf_counter() - start)
    traces = float(real.var(0).sum() + generated.var(0).sum())
    result = {"benchmark": "frechet", "count": args.count, "dimension": args.dimension, "sides": {}}
    for name in sides:
        ratios = [b / a for a, b in zip(times["jaxmedgen"], times[name])]
        error = abs(found[name] - found["jaxmedgen"]) / traces
        if error > 1e-6:
            raise SystemExit(f"error: {name} gives {found[name]}, ours {found['jaxmedgen']}")
        row = {
            "seconds": statistics.median(times[name]),
            "ours_faster_by": statistics.median(ratios),
            "fid": found[name],
        }
        result["sides"][name] = row
        print(
            f"{name:15} {row['seconds']:8.2f} s   {row['ours_faster_by']:6.2f}x   "
            f"FID {row['fid']:.9f}",
            flush=True,
        )
    print(json.dumps(result))


def _sides():
    """Functions of two feature arrays, ours first."""
    from jaxmedgen.metrics.frechet import fid

    sides = {"jaxmedgen": fid}
    try:
        import torch
        from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

        def fidelity(real, generated):
            stats = (fid_features_to_statistics(torch.from_numpy(x)) for x in (real, generated))
            return fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]

        sides["torch-fidelity"] = fidelity
    except ImportError:
        print("torch-fidelity is not installed: pip install -e '.[bench]'")
    try:
        import torch
        from monai.metrics.fid import get_fid_score

        def monai(real, generated):
            return float(get_fid_score(torch.from_numpy(generated), torch.from_numpy(real)))

        sides["MONAI"] = monai
    except ImportError:
        print("MONAI is not installed: pip install -e '.[bench]'")
    return sides


if __name__ == "__main__":
    main()
