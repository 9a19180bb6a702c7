"""What lost nodes cost a stage: the size of its checkpoint, work done again, and how often to write one.

A stage is lost at a constant rate, and goes on from its last checkpoint when it has its nodes again.
"""

from __future__ import annotations

from math import expm1, sqrt

from vjepa_exp.graph.network import encoder_parameters
from vjepa_exp.spec.stages import PretrainRecipe, ProbeRecipe

HOPELESS = 50.0
"""Interruptions expected in one interval, beyond which it does not matter how many: the stage never ends."""
FLOAT = 4
SAVED = 3 * FLOAT
"""Bytes of a trained parameter in a checkpoint: the weight and two moments of AdamW, in single precision."""


def checkpoint_bytes(recipe: PretrainRecipe | ProbeRecipe, parameters: int) -> int:
    """Size of `state.pt`: trained weights with their moments, and the moving average of an encoder that is trained.

    Args:
        recipe: of the stage.
        parameters: trained ones.
    """
    averaged = isinstance(recipe, PretrainRecipe) and recipe.pretrain.objective.kind != "pixels"
    return SAVED * parameters + (FLOAT * encoder_parameters(recipe.model) if averaged else 0)


def extra_share(rate: float, interval_s: float, restart_s: float, write_s: float) -> float:
    """Expected extra time of a stage over the time it would take without losses and checkpoints.

    An interval is tried until it passes without a loss (Daly 2006, equation 13); for rare losses this is
    `rate * (interval_s / 2 + restart_s) + write_s / interval_s`.

    Args:
        rate: interruptions of the stage in a second: those of a node times its nodes.
        interval_s: of training between two checkpoints; the length of the stage where it writes none.
        restart_s: from an interruption until the stage trains again.
        write_s: of one checkpoint, during which training waits; 0 where it writes none.

    Returns:
        A share, 0.1 for a tenth more.
    """
    if not rate:
        return write_s / interval_s
    expected = min(HOPELESS, rate * (interval_s + write_s))
    return (1 / rate + restart_s) * expm1(expected) / interval_s - 1


def best_interval(rate: float, write_s: float) -> float:
    """Seconds between checkpoints with which least is lost, where losses are rare (Young 1974)."""
    return sqrt(2 * write_s / rate)
