"""Runs the experiments of `usability` and gathers their parts in one result."""

import dataclasses
import difflib
import pathlib
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from jaxmedgen.configuration import ConfigError, load_config
from jaxmedgen.data.build import Sources, build_sources
from jaxmedgen.data.case_groups import groups_of
from jaxmedgen.data.sources import Standardized, in_memory
from jaxmedgen.experiments.ablation import run_study
from jaxmedgen.experiments.runs import open_run
from jaxmedgen.experiments.study import Study
from jaxmedgen.experiments.synthetic.agreement import measured
from jaxmedgen.experiments.synthetic.experiment_readings import (
    equivalences,
    findings_of,
    group_tables,
    retention_table,
    texts_of,
)
from jaxmedgen.experiments.synthetic.folder_settings import by_vendor, check_scar, configure
from jaxmedgen.experiments.synthetic.generator_sources import (
    GeneratorFor,
    check_trainable,
    ready,
    style_bank,
    trained_on,
    trained_run,
)
from jaxmedgen.experiments.synthetic.generators import StyleBank
from jaxmedgen.experiments.synthetic.known_generators import (
    OracleGenerator,
    render_late_enhancement,
)
from jaxmedgen.experiments.synthetic.label_models import refuse_held_out
from jaxmedgen.experiments.synthetic.scar import run_scar
from jaxmedgen.experiments.synthetic.scar_report import write_scar_report
from jaxmedgen.experiments.synthetic.setting import REAL, Part, Setting
from jaxmedgen.experiments.synthetic.usability import EXPERIMENTS
from jaxmedgen.report.page import write_report
from jaxmedgen.report.results import AblationResults, save_results
from jaxmedgen.report.summary import print_summary, summarise
from jaxmedgen.train.progress import Progress


def generator_for(name: str, config: ConfigDict, styles: StyleBank | None = None) -> GeneratorFor:
    """What ``--generator`` names.

    ``oracle``: the phantoms' renderer. A configuration (``configs/NAME.py:cpu``): trained anew on
    the subjects that each arm may see. A folder of ``bin/train``: as it is, which is a leak where
    it has seen more subjects than the segmenter. `styles` are images by vendor; those of the
    phantoms by default.

    Raises:
        ValueError: no such configuration or run, or an oracle for other data than the phantoms.
    """
    if name == "oracle":
        oracles = {
            "heart_slices": OracleGenerator(),
            "late_enhancement": OracleGenerator(render_late_enhancement, "late-enhancement oracle"),
        }
        if config.data.kind not in oracles:
            raise ValueError(
                f"--generator oracle renders the heart phantoms, not data.kind={config.data.kind}: "
                "name a configuration or the folder of a trained run"
            )
        return ready(oracles[config.data.kind])
    styles = style_bank(config) if styles is None else styles
    if pathlib.Path(name).is_dir():
        merged = tuple(config.data.target_of), tuple(config.data.target_names)
        return trained_run(pathlib.Path(name), styles, *merged)
    return trained_on(name, styles)


def setting_of(config: ConfigDict, generator: str) -> Setting:
    """Reads the data of a configuration and names its generator."""
    return _setting(config, build_sources(config.data), generator)


def _setting(
    config: ConfigDict, sources: Sources, generator: str, bank: StyleBank | None = None
) -> Setting:
    """A setting whose generator can be trained, or is a run that has seen no held-out patient."""
    made = generator_for(generator, config, bank)
    ready = generator != "oracle" and pathlib.Path(generator).is_dir()
    setting = Setting(config, sources, made, ready)
    if generator != "oracle" and not ready:
        check_trainable(generator, sources.train)
    if ready:
        seen = open_run(pathlib.Path(generator)).patients
        refuse_held_out(seen, setting.held_out, f"the generator {generator}")
    return setting


def folder_setting(
    name: str, config: ConfigDict, generator: str, overrides: Mapping[str, str]
) -> Setting:
    """As `setting_of`, for a folder that `folder_settings.configure` has seen.

    Raises:
        ValueError: the folder lacks what the experiment is about.
    """
    if name == "scar":
        plain = ConfigDict(config.data.to_dict()).unlock()
        plain.target_of, plain.target_names = (), ()
        check_scar(build_sources(plain))
    sources, bank = build_sources(config.data), {}
    names = [
        n for s in (sources.train, sources.validation, sources.test) for n in s.info.case_names
    ]
    for pattern in (config.experiment.vendor_pattern, config.experiment.disease_pattern):
        if pattern:
            groups_of(names, pattern)  # all of them, before anything is trained
    if name == "domain_shift":
        sources, bank = by_vendor(config, sources, overrides, config.experiment.style_images)
    return _setting(config, sources, generator, bank)


def run_experiment(
    name: str,
    setting: Setting,
    workdir: pathlib.Path,
    *,
    seeds: int,
    dataset: str,
    command: str = "",
    parts: Sequence[Part] | None = None,
    progress: Progress | None = None,
    cache: pathlib.Path | None = None,
) -> AblationResults:
    """Trains and scores an experiment's runs that are not finished yet.

    Args:
        name: one of `EXPERIMENTS`, which has the parts.
        setting: data, configuration, generator.
        workdir: of all its runs.
        seeds: repetitions.
        dataset: a phrase for the report.
        command: that repeats it.
        parts: other parts than the experiment's own, a selection of them say.
        progress: where to show progress.
        cache: folder of compiled programs; ``workdir/cache`` by default.
    """
    found = []
    for number, part in enumerate(EXPERIMENTS[name](setting) if parts is None else parts):
        if not part.budgets:
            continue
        study = Study(
            config=setting.config,
            sources=_standardized(setting.sources),
            arms=dict(part.arms),
            budgets=part.budgets,
            seeds=seeds,
            dataset=dataset,
            command=command,
        )
        folder = workdir / f"part{number}"
        shared = cache or workdir / "cache"
        found.append(run_study(study, folder, progress=progress, cache=shared))
    return merged(found, f"Synthetic data: {name.replace('_', ' ')}")


def merged(parts: Sequence[AblationResults], title: str) -> AblationResults:
    """Results of several studies of one reference arm, one set of test cases and seeds.

    Raises:
        ValueError: nothing to merge.
    """
    if not parts:
        raise ValueError("there are no parts to merge")
    first = parts[0]
    return dataclasses.replace(
        first,
        title=title,
        arms={name: text for part in parts for name, text in part.arms.items()},
        budgets=tuple(sorted({b for part in parts for b in part.budgets})),
        reference_arm=REAL,
        runs=tuple(run for part in parts for run in part.runs),
        overlays=tuple(overlay for part in parts for overlay in part.overlays),
        samples={name: shown for part in parts for name, shown in part.samples.items()},
        failures={name: why for part in parts for name, why in part.failures.items()},
        total_seconds=float(sum(part.total_seconds for part in parts)),
        budgets_of={name: part.budgets for part in parts for name in part.arms},
    )


def _standardized(sources: Sources) -> Sources:
    """Tests as the arms show images: mean 0, deviation 1. Arms standardise what they show."""
    validation, test = (
        in_memory(Standardized(source)) for source in (sources.validation, sources.test)
    )
    return dataclasses.replace(sources, validation=validation, test=test)


def report_experiment(
    name: str,
    config_name: str | None,
    overrides: Mapping[str, str],
    generator: str,
    workdir: pathlib.Path,
    *,
    seeds: int,
    command: str,
    quiet: bool = False,
) -> pathlib.Path:
    """What ``bin/ablate --experiment`` does: runs an experiment, writes and prints its report.

    Args:
        name: of `EXPERIMENTS`, or ``scar``.
        config_name: configuration; by default `configs/synthetic_data_evaluation.py` for it.
        overrides: settings of the command line.
        generator: see `generator_for`.
        workdir: of all runs and the report.
        seeds: repetitions.
        command: that repeats it.
        quiet: no progress.

    Returns:
        Path of the report.

    Raises:
        ValueError: unknown experiment.
    """
    _check_name(name)
    config = load_config(
        config_name or f"synthetic_data_evaluation:cpu,experiment={name}", overrides
    )
    if "experiment" not in config:
        raise ConfigError(
            f"{config_name} has no group 'experiment': take configs/synthetic_data_evaluation.py"
        )
    if config.data.kind == "folder":
        configure(name, config, overrides)
        setting = folder_setting(name, config, generator, overrides)
    else:
        setting = setting_of(config, generator)
    progress = Progress(quiet=quiet)
    if name == "scar":
        return write_scar_report(
            setting, run_scar(setting, workdir, seeds=seeds, progress=progress), workdir
        )
    train, test = len(setting.sources.train), len(setting.sources.test)
    results = run_experiment(
        name,
        setting,
        workdir,
        seeds=seeds,
        dataset=f"{config.data.kind}, {train} training and {test} test subjects, "
        f"generator {generator}",
        command=command,
        progress=progress,
    )
    save_results(results, workdir / "results")
    options = setting.config.experiment
    vendors = trained = ()
    if options.vendor_pattern:
        vendors = groups_of(results.cases, options.vendor_pattern)
        trained = groups_of(setting.pool.info.case_names, options.vendor_pattern)
    texts = texts_of(findings_of(name, results, vendors, trained, honest=not setting.ready))
    patterns = {"vendor": options.vendor_pattern, "disease": options.disease_pattern}
    tables = group_tables(results, patterns)
    if name == "reduction":
        kept = retention_table(results)
        texts, tables = (*texts, *equivalences(kept)), (*tables, kept)
    if name == "agreement":
        findings, distances, said = measured(setting, results, workdir)
        texts, tables = (*said, *texts_of(findings)), (*tables, distances)
    path = write_report(results, workdir / "report.html", readings=texts, groups=tables)
    print_summary(summarise(results))
    for text in texts:
        print(f"reading: {text}")
    return path


def _check_name(name: str) -> None:
    known = (*EXPERIMENTS, "scar")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        raise ValueError(
            f"unknown experiment '{name}': did you mean '{near[0]}'? There are {', '.join(known)}"
        )
