"""Optimisers from settings: clipping, Adam(W) / AMSGrad / SGD, and the learning-rate schedule."""

import jax.numpy as jnp
import optax

SCHEDULES = ("constant", "cosine", "poly", "linear", "half_linear")
OPTIMIZERS = ("adam", "amsgrad", "adamw", "sgd")


def schedule(
    kind: str, peak: float, steps: int, warmup: int = 0, end: float = 0.0
) -> optax.Schedule:
    """Learning rate against step.

    Args:
        kind: ``constant``, ``cosine``, ``linear`` (to zero), ``half_linear`` (constant for half of
            the steps, then linear to zero, as pix2pixHD and SPADE have it) or ``poly`` (power 0.9,
            nnU-Net).
        peak: learning rate after the warm-up.
        steps: total steps, warm-up included.
        warmup: steps of linear rise from zero.
        end: learning rate at the last step of ``cosine``.

    Raises:
        ValueError: unknown kind, or a warm-up as long as the run.
    """
    if warmup and warmup >= steps:
        raise ValueError(f"warmup={warmup} must be shorter than steps={steps}")
    rest = steps - warmup
    if kind == "constant":
        main = optax.constant_schedule(peak)
    elif kind == "cosine":
        main = optax.cosine_decay_schedule(peak, rest, alpha=end / peak)
    elif kind == "linear":
        main = optax.linear_schedule(peak, 0.0, rest)
    elif kind == "half_linear":
        falling = optax.linear_schedule(peak, 0.0, rest - rest // 2)
        main = optax.join_schedules([optax.constant_schedule(peak), falling], [rest // 2])
    elif kind == "poly":
        main = optax.polynomial_schedule(peak, 0.0, 0.9, rest)
    else:
        raise ValueError(f"unknown schedule '{kind}': choose one of {', '.join(SCHEDULES)}")
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def optimizer(
    kind: str,
    learning_rate: float | optax.Schedule,
    *,
    clip_norm: float | None = None,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    b1: float = 0.9,
    b2: float = 0.999,
) -> optax.GradientTransformation:
    """An optax chain: clipping by global norm, then the optimiser.

    Args:
        kind: ``adam``, ``amsgrad`` (as PyTorch has it), ``adamw`` or ``sgd`` (Nesterov).
        learning_rate: number or schedule.
        clip_norm: largest global gradient norm, None for no clipping.
        weight_decay: decoupled decay (adamw), or L2 added to the gradient (the others).
        momentum: sgd only.
        b1: all but sgd: decay of the first moment.
        b2: all but sgd: decay of the second moment.

    Raises:
        ValueError: unknown kind.
    """
    if kind in ("adam", "amsgrad"):
        make = optax.adam if kind == "adam" else _amsgrad
        main = make(learning_rate, b1=b1, b2=b2)
        if weight_decay:
            main = optax.chain(optax.add_decayed_weights(weight_decay), main)
    elif kind == "adamw":
        main = optax.adamw(learning_rate, b1=b1, b2=b2, weight_decay=weight_decay)
    elif kind == "sgd":
        main = optax.chain(
            optax.add_decayed_weights(weight_decay),
            optax.sgd(learning_rate, momentum=momentum, nesterov=True),
        )
    else:
        raise ValueError(f"unknown optimizer '{kind}': choose one of {', '.join(OPTIMIZERS)}")
    return main if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), main)


def _amsgrad(
    learning_rate: optax.ScalarOrSchedule, *, b1: float, b2: float
) -> optax.GradientTransformation:
    """AMSGrad whose maximum runs over the second moment before its bias is corrected.

    So does PyTorch, with which published results were made. The maximum over corrected moments,
    optax's default, is never below the first gradient's square, which is often the largest of a
    training and would divide all later steps.
    """
    return optax.chain(
        optax.scale_by_amsgrad(b1=b1, b2=b2, bias_correction_nu=False),
        optax.scale_by_schedule(lambda count: jnp.sqrt(1 - b2 ** (count + 1.0))),
        optax.scale_by_learning_rate(learning_rate),
    )
