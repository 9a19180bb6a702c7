"""Frozen evaluation: train and test probes on tokens of a frozen encoder (paper section 4, Table 9; method facts 8).

Probes that want the same tokens are trained together, step by step on the same batches: the encoder, which costs nearly
everything, works once for all of them. None sees the others, so each ends bit for bit where it would end alone.

Where clips are not augmented and the features fit, the encoder sees every training clip once, and all epochs run on the
kept features. Test features never change: where they fit, they are kept too and give a score after every epoch, or
after several where a few labels would be tested on many videos. The score of the last epoch is the result; nothing is
selected on the test split.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.checkpoint import load_checkpoint
from vjepa_exp.train.hooks import DivergedError
from vjepa_exp.train.joint import JointTraining, ProbeResult
from vjepa_exp.train.loop import Hook
from vjepa_exp.train.probe_data import Split, TrainingTokens, held_out_tokens, training_tokens
from vjepa_exp.train.probe_score import HeldOut
from vjepa_exp.train.probe_step import ProbeState
from vjepa_exp.train.world import World
from vjepa_models.encoder import VideoEncoder


class Resume(NamedTuple):
    """Checkpoint folder of each probe, None for one that begins, and the fingerprint of the order of training videos.

    Tokens and batches begin at the fewest steps that a probe has done; one that is further passes over what it had.
    """

    folders: Sequence[Path | None]
    order: str


BEGIN = Resume((), "")


def train_probes(
    recipes: Sequence[ProbeRecipe],
    world: World,
    encoder: VideoEncoder,
    train: Split,
    test: Split,
    num_classes: int,
    *,
    micro_batch: int | None = None,
    hooks: Sequence[Sequence[Hook[ProbeState]]] | None = None,
    resume: Resume = BEGIN,
    first: int = 0,
) -> list[ProbeResult | DivergedError]:
    """Train probes and test each on every video of the test split exactly once.

    Args:
        recipes: decide the numbers. They differ in nothing that changes tokens, batches or the number of epochs: in
            pooling, learning rate, weight decay, warm-up and clipping at most.
        world: this worker among its equals.
        encoder: frozen.
        train: positions 0 .. `num_train_positions` of the training order. Where features are kept: in any batches, each
            position on one worker. Otherwise step s (from 1) takes positions [(s-1)B, sB), worker r the r-th slice,
            and the batches of the `first` steps are left out.
        test: positions 0 .. `num_videos`, in any batches, each position on one worker.
        num_classes: classes of both splits.
        micro_batch: clips of one forward pass of the encoder.
        hooks: of each probe, called after every step, on every worker.
        resume: where the probes go on.
        first: the fewest steps that one of them has done.

    Returns:
        For each recipe a result, or the DivergedError of a hook that ended it: the others go on. What else a hook
        raises ends all of them.

    Raises:
        UserError: no readable video in a split, a batch that does not divide among the workers, or a checkpoint that
            does not fit.
        RuntimeError: the streams miss or repeat a video.
    """
    shared = recipes[0]
    encoder = encoder.to(world.device)
    tokens = training_tokens(shared, encoder, train, world, micro_batch, first)
    held_out = HeldOut(held_out_tokens(shared, encoder, test, world, micro_batch), test.num_videos)
    return train_on_tokens(recipes, world, encoder, tokens, held_out, num_classes, hooks, resume=resume)


def train_on_tokens(
    recipes: Sequence[ProbeRecipe],
    world: World,
    encoder: VideoEncoder,
    tokens: TrainingTokens,
    test: HeldOut,
    num_classes: int,
    hooks: Sequence[Sequence[Hook[ProbeState]]] | None = None,
    resume: Resume = BEGIN,
) -> list[ProbeResult | DivergedError]:
    """`train_probes` on features that are there, or on their way.

    Args:
        recipes: as there.
        world: this worker among its equals.
        encoder: that the features are of; only its sizes count.
        tokens: training batches of all epochs but the first steps that all probes have done.
        test: of the test.
        num_classes: classes of both splits.
        hooks: of each probe.
        resume: as there.
    """
    training = JointTraining(recipes, world, encoder, tokens, test, num_classes, hooks)
    for number, folder in enumerate(resume.folders):
        if folder:
            load_checkpoint(folder, training.states[number], recipes[number], resume.order)
    for _ in training.steps():
        pass
    return training.results()
