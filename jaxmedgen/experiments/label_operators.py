"""Synthetic subjects without a model: training stacks deformed elastically, or by morphology."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.augment.label_deformation import Elastic, Rotation
from jaxmedgen.augment.label_morphology import RULES, LabelMorphology
from jaxmedgen.experiments.label_space import equalised_indices
from jaxmedgen.experiments.label_synthesis import Population, SyntheticSubject
from jaxmedgen.metrics.plausibility import plausible_share

Operator = Literal["elastic", "right_elastic", "morphology"]
OPERATORS: tuple[Operator, ...] = ("elastic", "right_elastic", "morphology")

_DISPLACEMENT = (10.0, 14.0)
"""mm; folds nowhere with 8 control points over 160 mm."""
_RIGHT = 3


def operate(population: Population, operator: Operator | str, seed: int) -> SyntheticSubject:
    """One deformed training subject, with as many slices as it had.

    Args:
        population: of the training subjects.
        operator: ``elastic``: a B-spline deformation and a rotation of up to 20 degrees of the
            whole stack; ``right_elastic``: of the right ventricle alone; ``morphology``: one of the
            rules of `LabelMorphology`, on a class drawn at random where it takes one.
        seed: of all draws.

    Raises:
        ValueError: an unknown operator.
    """
    if operator not in OPERATORS:
        raise ValueError(f"operator '{operator}': choose one of {', '.join(OPERATORS)}")
    rng = np.random.default_rng(seed)
    stack = population.stacks[int(rng.integers(len(population.stacks)))]
    keys = jax.random.split(jax.random.key(seed), 2)
    label = jnp.asarray(stack.label)[None]
    if operator == "morphology":
        rule, part = str(rng.choice(RULES)), int(rng.choice((1, 2, 3)))
        change = LabelMorphology(rule, label=part, probability=1.0)
        made = jax.jit(change)(keys[:1], label)
    else:
        only = _RIGHT if operator == "right_elastic" else None
        elastic = Elastic(stack.spacing, displacement=_DISPLACEMENT, only=only)
        turn = Rotation(stack.spacing, probability=0.5 if only is None else 0.0)
        made = jax.jit(lambda label: turn(keys[1:], elastic(keys[:1], label)))(label)
    made = np.asarray(made[0])
    return SyntheticSubject(
        label=made.astype(np.uint8),
        spacing=stack.spacing,
        sources=(stack.name,),
        t=1.0,
        method=operator,
        seed=seed,
        disease=stack.group,
        phase=stack.phase,
        plausible_slices=plausible_share(made),
        within_range=population.range.contains(
            equalised_indices(made, stack.spacing, population.slices)
        ),
    )
