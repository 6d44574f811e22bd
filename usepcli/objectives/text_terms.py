"""What weak supervision by words is made of beside its loss on magnitudes (Mahmud et al. 2024).

A judge has two sides, A for sounds and L for words, and a scale s. The contrastive term of M estimates, each asked by
one of U different phrases q, is
    cnt = - mean_m log softmax_q( s cos(A(e_m), L(q)) ) at the phrase that e_m was asked by
A phrase that occurs twice in a batch is one of the U, so that it is no negative of itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from usepcli import registry
from usepcli.encoders.base import Judge
from usepcli.errors import ConfigError
from usepcli.models.fixed import Fixed


def judge_of(name: str, path: str, key: str = "cnt", prompts: str = "") -> Fixed:
    """Return the judge of a registered name, frozen; ConfigError where the term objective.`key` has none.

    prompts: where learned vectors lie behind which it reads phrases (encoders/prompts.py).
    """
    if not name:
        raise ConfigError(
            f"objective.judge: empty, and objective.{key} needs one; name a judge and objective.judge_path, or set "
            f"{key} to 0"
        )
    made: Judge = registry.load("judge", name)(path)
    if prompts:
        made.prompted(prompts)
    return Fixed(made, made.reference, made.sha256)


def judged(
    judge: Fixed, waves: Tensor, rate: int, asked: Sequence[str], others: Sequence[str] = (), symmetric: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the contrastive term of waves (M, T) at `rate` Hz, each asked by a phrase, and the share told right.

    others: phrases that nobody asked by, negatives alone. Gradients reach the waves.
    """
    ear = judge.module
    assert isinstance(ear, Judge)
    place = {phrase: k for k, phrase in enumerate(dict.fromkeys([*asked, *others]))}
    own = torch.tensor([place[phrase] for phrase in asked], device=waves.device)
    with torch.autocast(waves.device.type, enabled=False):
        heard = ear.hear(waves.float(), rate)
        read = ear.read(list(place)).to(heard.device)
        right = (heard.detach() @ read.T).argmax(1).eq(own).float().mean()
        return told_apart(heard, read, own, ear.scale, symmetric), right


def told_apart(heard: Tensor, read: Tensor, own: Tensor, scale: float, symmetric: bool = False) -> Tensor:
    """Return the contrastive term, a scalar, of M estimates heard (M, E) and U different phrases read (U, E).

    own (M,): which phrase each estimate was asked by. symmetric: phrases find their estimates, too, and the mean of
    both is taken; where several estimates answer one phrase, it shares itself out among them.
    """
    logits = scale * heard.float() @ read.float().T  # (M, U)
    sounds = F.cross_entropy(logits, own)
    if not symmetric:
        return sounds
    asked = own.unique()
    mine = F.one_hot(own, read.shape[0]).to(logits.dtype).T[asked]  # (phrases, M)
    words = -((mine / mine.sum(1, keepdim=True)) * F.log_softmax(logits.T[asked], 1)).sum(1).mean()
    return (sounds + words) / 2
