"""Deep clustering beside masks: embeddings of bins are to be close where the same source is loudest.

With the embeddings V (rows v_i of unit length, D numbers), the one-hot Y of the loudest reference in each bin (K
columns), and weights w_i of the bins that add up to 1, W = diag(w),
    classic     |V' W V|^2 - 2 |V' W Y|^2 + |Y' W Y|^2  =  sum_ij w_i w_j (v_i . v_j - y_i . y_j)^2
                                                                                    (Hershey et al. 2016, equation 6)
    whitened    K - tr( (V' W V)^-1 V' W Y (Y' W Y)^-1 Y' W V )             (Wang, Le Roux & Hershey 2018, equation 6)
The right-hand side of the first compares all pairs of bins; the left needs matrices of D and K rows alone. The paper's
second has D in place of K, the number of references that are loudest anywhere: constants, but for which it is 0 where
every source has a place of its own. Then, with PIT on the masks as L_mask (`loss`), as chimera++ learns,
    L = c L_clusters + (1 - c) L_mask,     c = cluster_weight, 0.975 in the paper
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.errors import ConfigError, choices
from usepcli.losses.base import Loss
from usepcli.models.separator import SeparationModel
from usepcli.objectives.pit import PIT, match, mean_snr_db, references, refuse_more, seen

Clusters = Literal["whitened", "classic"]
Weighting = Literal["magnitude", "loud"]
WEIGHTINGS = ("magnitude", "loud")
LOUD_DB = 40.0  # bins that far below the loudest do not count, by `loud`
# What V' W V, of trace 1, and Y' W Y are raised by before they are inverted.
RIDGE = 1e-6
NAME = "deep_clustering"


def affinities(emb: Tensor, owner: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return V' W V (B, D, D), V' W Y (B, D, K) and Y' W Y (B, K, K), in float64.

    emb is V (B, M, D), owner Y (B, M, K), weight w (B, M).
    """
    with torch.autocast(emb.device.type, enabled=False):
        emb, owner = emb.float(), owner.float()
        heavy = weight.float()[..., None] * emb
        return tuple((a.mT @ b).double() for a, b in ((heavy, emb), (heavy, owner), (weight[..., None] * owner, owner)))  # type: ignore[return-value]


def classic(emb: Tensor, owner: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted squared difference (B,) of affinities of all pairs of bins, from small matrices."""
    vv, vy, yy = (each.square().sum((-2, -1)) for each in affinities(emb, owner, weight))
    return vv - 2 * vy + yy


def whitened(emb: Tensor, owner: Tensor, weight: Tensor) -> Tensor:
    """Return how far the space of the embeddings is from that of the owners (B,), from 0 to the number of owners."""
    vv, vy, yy = affinities(emb, owner, weight)
    count = (yy.diagonal(dim1=-2, dim2=-1) > 0).sum(-1)
    shared = torch.linalg.solve(_raised(vv), vy) @ torch.linalg.solve(_raised(yy), vy.mT)  # (B, D, D)
    return count - shared.diagonal(dim1=-2, dim2=-1).sum(-1)


def _raised(square: Tensor) -> Tensor:
    return square + RIDGE * torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)


def owners(spec: Tensor) -> Tensor:
    """Return Y (B, M, K), one-hot by the loudest of the references' spectra (B, K, F, L), M = F L bins."""
    level = spec.abs().flatten(2)  # (B, K, M)
    return torch.nn.functional.one_hot(level.argmax(1), level.shape[1]).to(level.dtype)


def weights(spectrum: Tensor, how: Weighting) -> Tensor:
    """Return weights (B, M) of the bins of the mixture's spectrum (B, F, L) that add up to 1, or are 0 in silence."""
    level = spectrum.abs().flatten(1)
    if how == "loud":
        level = (level > 10 ** (-LOUD_DB / 20) * level.amax(1, keepdim=True)).to(level.dtype)
    return level / level.sum(1, keepdim=True).clamp_min(1e-12)


class DeepClustering(PIT):
    """Trains embeddings and masks of a model that has both (`chimera`), against references."""

    def __init__(
        self,
        model: SeparationModel,
        loss: Loss,
        clusters: Clusters = "whitened",
        cluster_weight: float = 0.975,
        bins: Weighting = "magnitude",
        zero_refs: Literal["match", "ignore"] = "match",
        zero_weight: float = 1.0,
        residual: bool = False,
        perm_loss: Literal["same", "unthresholded"] = "same",
    ) -> None:
        """Choose the loss of the embeddings, its share of both, and how bins count; the rest is as in `pit`.

        bins: by their magnitude, or alike where they are at most 40 dB below the loudest. ConfigError for a model
        without embeddings.
        """
        super().__init__(model, loss, zero_refs, zero_weight, residual, perm_loss)
        for key, found, known in (("clusters", clusters, ("whitened", "classic")), ("bins", bins, WEIGHTINGS)):
            if found not in known:
                raise ConfigError(f"objective.{key}: {choices(key, found, known)}")
        if not 0 <= cluster_weight <= 1:
            raise ConfigError(f"objective.cluster_weight: found {cluster_weight}; expected a share from 0 to 1")
        if not model.embeds:
            raise ConfigError(
                f"objective.name: {NAME}, and {type(model).__name__} has no embeddings; take model.name: chimera, or "
                "objective.name: pit"
            )
        self.clusters = whitened if clusters == "whitened" else classic
        self.cluster_weight, self.bins = cluster_weight, bins

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return both weighted terms; BadInput without references or with more of them than outputs."""
        ref = references(batch, self.residual)
        refuse_more(NAME, ref.shape[1], self.n_src)
        parts = self.student.parts(batch.mix)
        if parts.embeddings is None or parts.spectrum is None:
            raise ValueError("a model gives embeddings where gradients are; expected losses to be asked for with them")
        found = match(
            self.loss,
            *seen(self.loss, self.student, batch.mix, ref, parts),
            self.zero_refs,
            self.zero_weight,
            self.search,
        )
        owner = owners(self.student.transform(ref))
        clustered = self.clusters(parts.embeddings.flatten(1, 2), owner, weights(parts.spectrum, self.bins)).mean()
        self.step_logs = {"snr_db": mean_snr_db(found), "clusters": clustered.detach()}
        share = self.cluster_weight
        return {"clusters": share * clustered.to(found.loss.dtype), "pit": (1 - share) * found.loss.mean()}
