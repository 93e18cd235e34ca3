"""Claim A: trained on one pose, tested on turned lesions; and how exact trained networks are.

Eight volumes whose lesions have one pose train; the tests show new volumes in that pose, the same
volumes under the other 23 turns of the cube, and volumes at any rotation.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.data.build import Sources, build_sources
from jaxmedgen.data.phantoms.rotated_lesions import RotatedLesions
from jaxmedgen.data.sources import ArraySource, in_memory
from jaxmedgen.experiments.reproductions.gcnn.parts import Part, network, settings, study, trained
from jaxmedgen.experiments.reproductions.record import Claim, Options
from jaxmedgen.metrics.equivariance import equivariance_errors
from jaxmedgen.metrics.statistics import mean_interval
from jaxmedgen.ops.group_average import Network
from jaxmedgen.ops.groups import act_on_image, point_group
from jaxmedgen.report.pictures import montage, plane_columns
from jaxmedgen.report.results import AblationResults
from jaxmedgen.report.summary import score_matrix

FOLDER = "pose"
BUDGET = 8
SEEDS = 3
VOLUMES = 6
LONGER = 4
TURNED = point_group("O").matrices[1:]
ARMS = {
    "baseline": network("no symmetry", "baseline"),
    "turns": network("no symmetry, training volumes turned at random", "baseline_rotation"),
    f"turns-{LONGER}x": network(f"the same, {LONGER}x the steps", "baseline_rotation", "O", LONGER),
    "octahedral": network("O U-Net, matched features", "o_features"),
}
Groups = dict[str, np.ndarray]
_SHOWN = "turned-0-7"


def run(options: Options) -> Part:
    """Trains, checks the claims, measures equivariance errors, draws one volume in two poses."""
    config = settings(options, data__train=str(BUDGET), data__validation="0", eval_every="0")
    sources = build_sources(config.data)
    first = config.data.train
    sources = dataclasses.replace(
        sources, test=poses(tuple(config.data.shape), config.data.seed, first)
    )
    results, _ = study(
        options, FOLDER, config, sources, ARMS, (BUDGET,), SEEDS, "lesions of one pose"
    )
    errors = {arm: _errors(options, sources, arm) for arm in ("baseline", "octahedral")}
    return Part(
        results.total_seconds,
        (*claims(results), _exact(errors["octahedral"])),
        table(results, errors),
        {"poses": _picture(options, sources)},
    )


def poses(shape: tuple[int, ...], seed: int, start: int) -> ArraySource:
    """Test volumes in the training pose, turned by every other element of O, at any rotation."""
    straight = in_memory(RotatedLesions(VOLUMES, shape, seed, start, "canonical", "canonical"))
    oblique = in_memory(RotatedLesions(VOLUMES, shape, seed, start + VOLUMES, "random", "random"))
    images = jnp.stack([r["image"] for r in straight.records])
    labels = jnp.stack([r["label"] for r in straight.records])[..., None]
    records, names = list(straight.records), [f"canonical-{v}" for v in range(VOLUMES)]
    for g, matrix in enumerate(TURNED, 1):
        turned = (np.asarray(act_on_image(x, matrix)) for x in (images, labels))
        for v, (image, label) in enumerate(zip(*turned)):
            records.append({"image": image, "label": label[..., 0]})
            names.append(f"turned-{v}-{g}")
    records += oblique.records
    names += [f"random-{v}" for v in range(VOLUMES)]
    return ArraySource(records, dataclasses.replace(straight.info, case_names=tuple(names)))


def grouped(results: AblationResults, arm: str) -> Groups:
    """Dice ``[seeds, volumes]`` by kind of pose; turned volumes are averaged over their turns."""
    scores = score_matrix(results, arm, BUDGET)
    volumes = sorted({case.split("-")[1] for case in results.cases})
    found = {}
    for kind in ("canonical", "turned", "random"):
        columns = [
            [i for i, c in enumerate(results.cases) if c.split("-")[:2] == [kind, v]]
            for v in volumes
        ]
        found[kind] = np.stack([np.nanmean(scores[:, chosen], 1) for chosen in columns], 1)
    return found


def claims(results: AblationResults) -> tuple[Claim, ...]:
    """What the sheet expects of the four arms."""
    found = {arm: grouped(results, arm) for arm in results.arms}
    kept = _gap(found["octahedral"])
    lost = mean_interval(np.nanmean(_drop(found["baseline"]), 0))
    plain, turns, longer, exact = (float(np.nanmean(found[arm]["turned"])) for arm in results.arms)
    return (
        Claim(
            "O U-Net, trained on one pose: Dice on turned volumes as on unturned ones",
            "difference <= 0.001 for every seed",
            kept,
            None,
            bool(kept <= 1e-3),
        ),
        Claim(
            "plain U-Net, trained on one pose: Dice lost on turned volumes",
            ">= 0.10, 95 % interval above 0",
            lost.mean,
            (lost.low, lost.high),
            bool(lost.mean >= 0.10 and lost.low > 0),
        ),
        Claim(
            "plain U-Net with random turns in training, the same steps: Dice on turned volumes",
            f"between the plain U-Net's {plain:.3f} and the O U-Net's {exact:.3f}",
            turns,
            None,
            bool(plain <= turns <= exact),
        ),
        Claim(
            f"the same with {LONGER}x the steps, less the O U-Net's Dice on turned volumes",
            ">= -0.02: it catches up",
            longer - exact,
            None,
            bool(longer - exact >= -0.02),
        ),
    )


def _drop(groups: Groups) -> np.ndarray:
    return groups["canonical"] - groups["turned"]


def _gap(groups: Groups) -> float:
    """The largest difference of a seed's mean Dice."""
    return float(np.abs(np.nanmean(_drop(groups), 1)).max())


def _exact(errors: list[float]) -> Claim:
    return Claim(
        "trained O U-Nets: equivariance error, the largest over 24 turns and the seeds",
        "<= 0.0001 of the largest probability (float32)",
        max(errors),
        None,
        max(errors) <= 1e-4,
    )


def _errors(options: Options, sources: Sources, arm: str) -> list[float]:
    """The largest equivariance error of every seed's trained network on a test volume."""
    found = []
    for seed in range(SEEDS):
        predict = _predictor(options, sources, arm, seed)
        x = jnp.asarray(sources.test[0]["image"])[None]
        found.append(float(equivariance_errors(predict, x, point_group("O")).max()))
    return found


def table(results: AblationResults, errors: dict[str, list[float]]) -> str:
    """Mean Dice by arm and kind of pose."""
    lines = ["| arm | training pose | turned | any rotation | equivariance error |"]
    lines += ["|---|---|---|---|---|"]
    for arm, description in results.arms.items():
        found = grouped(results, arm)
        cells = []
        for kind in ("canonical", "turned", "random"):
            by_seed = np.nanmean(found[kind], 1)
            spread = f" (sd {by_seed.std(ddof=1):.3f})" if len(by_seed) > 1 else ""
            cells.append(f"{by_seed.mean():.3f}{spread}")
        error = f"{max(errors[arm]):.1e}" if arm in errors else ""
        lines.append(f"| {arm}: {description} | " + " | ".join(cells) + f" | {error} |")
    return "\n".join(lines)


def _picture(options: Options, sources: Sources) -> np.ndarray:
    """A volume as trained, then turned: image, reference, baseline and O U-Net."""
    networks = [_predictor(options, sources, arm, 0) for arm in ("baseline", "octahedral")]
    names, columns = sources.test.info.case_names, []
    for case in ("canonical-0", _SHOWN):
        record = sources.test[names.index(case)]
        image = jnp.asarray(record["image"])[None]
        found = [np.asarray(predict(image)[0]).argmax(-1) for predict in networks]
        columns += plane_columns(record["image"], [None, record["label"], *found])
    return montage(columns, columns=4, gap=8)


def _predictor(options: Options, sources: Sources, arm: str, seed: int) -> Network:
    system, variables = trained(options.workdir / FOLDER, arm, BUDGET, seed, sources.info)
    return jax.jit(lambda x: system.predict(variables, x))
