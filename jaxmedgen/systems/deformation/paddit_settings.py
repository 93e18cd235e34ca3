"""What settings of PADDIT must satisfy; see `paddit.py`."""

from typing import Any

from jaxmedgen.data.sources import DatasetInfo

_LEAST_TRANSITIONS = 4
"""Of a chain: split R-hat takes the variance of either half."""


def check_settings(config: Any, info: DatasetInfo) -> None:
    """Refuses a configuration that does not fit itself or the data.

    Raises:
        ValueError: naming the setting, its value and what to do.
    """
    model = config.model
    subjects = config.batch_size
    if info.case_names and len(info.case_names) != subjects:
        raise ValueError(
            f"batch_size={subjects} for {len(info.case_names)} training subjects: an iteration "
            f"sees all of them, set --config.batch_size={len(info.case_names)}"
        )
    if not 0 <= model.map_rounds <= model.rounds < config.steps:
        raise ValueError(
            f"model.map_rounds={model.map_rounds}, model.rounds={model.rounds}, "
            f"steps={config.steps}: they must rise, and the last steps sample"
        )
    if model.sampler not in ("hmc", "map"):
        raise ValueError(f"model.sampler={model.sampler!r} is unknown: use 'hmc' or 'map'")
    draws, thinning = model.sampling.draws, model.sampling.thinning
    if model.sampler == "hmc" and draws * thinning < _LEAST_TRANSITIONS:
        raise ValueError(
            f"model.sampling.draws={draws} of thinning={thinning} transition(s) each: convergence "
            f"cannot be told from fewer than {_LEAST_TRANSITIONS} transitions in all"
        )
    if model.fit_prior and model.alpha_rate and model.velocity.flow == "geodesic":
        raise ValueError(
            f"model.alpha_rate={model.alpha_rate} with model.velocity.flow='geodesic': geodesics "
            "are of one metric, whose alpha must stay; set --config.model.alpha_rate=0"
        )
    tolerance = model.get("tolerance", 0.0)
    if tolerance < 0:
        raise ValueError(f"model.tolerance={tolerance} must be 0 (off) or above, such as 1e-3")
    if not info.channel_names:  # label maps: all tissues are compared
        return
    compared, channels = tuple(model.compared), len(info.channel_names)
    if not compared or not set(compared) <= set(range(channels)):
        raise ValueError(
            f"model.compared={compared} of {channels} image channel(s): give numbers from 0 on"
        )
