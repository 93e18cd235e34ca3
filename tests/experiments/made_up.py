"""Made-up results of a study, for the claims that are read off them."""

from jaxmedgen.report.results import AblationResults, Run


def study(arms, scores, classes, budgets=(6,), seeds=2, generator_seconds=lambda arm: 0.0):
    """Results of every arm, budget and seed.

    Args:
        arms: names; the first is the reference.
        scores: ``(arm, budget, seed)`` to a mapping case -> class -> measure -> value.
        classes: names of the foreground classes.
        budgets: numbers of labelled subjects.
        seeds: how many.
        generator_seconds: an arm's seconds of training its generator.
    """
    runs = [
        Run(arm, n, seed, 10.0, generator_seconds(arm), scores(arm, n, seed))
        for arm in arms
        for n in budgets
        for seed in range(seeds)
    ]
    return AblationResults(
        title="",
        dataset="",
        class_names=("background", *classes),
        spacing=(1.0, 1.0),
        arms={arm: "" for arm in arms},
        reference_arm=next(iter(arms)),
        budgets=tuple(budgets),
        seeds=tuple(range(seeds)),
        runs=tuple(runs),
    )
