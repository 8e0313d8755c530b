"""V-REx penalty: features that serve some sources better than others are not what fakes share.

V-REx (Krueger et al., "Out-of-distribution generalization via risk extrapolation", 2021) adds to the mean
loss the variance of the sources' mean losses R_s, each counted by its samples:

    L = mean(loss) + penalty * sum_s (n_s / n) (R_s - mean(loss))^2

Its gradient is that of the mean of the samples' losses, each counted 1 + 2 penalty (R_s - mean(loss)) times.
"""

import numpy as np
import torch

from pipeline.store.reader import FeatureStore
from train.model.distributed import ProcessGroup


def compute_source_ids(store: FeatureStore) -> np.ndarray:
    """Number each row's source from 0, int64 (N,); a name that both classes share has two numbers."""
    columns = store.columns
    names = np.char.add(columns["label"].astype(str), np.char.add("/", columns["source"].astype(str)))
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def compute_risk_variance(losses: np.ndarray, sources: np.ndarray) -> float:
    """Compute the variance of the sources' mean losses, weighted by their numbers of samples.

    Parameters
    ----------
    losses : float (n,)
    sources : int64 (n,), number of each sample's source
    """
    counts = np.bincount(sources)
    risks = np.bincount(sources, losses) / np.maximum(counts, 1)
    return float((counts * (risks - losses.mean()) ** 2).sum() / counts.sum())


def compute_sample_weights(
    losses: torch.Tensor, sources: torch.Tensor, count: int, penalty: float, group: ProcessGroup
) -> torch.Tensor:
    """Compute the weight of each sample's loss, float (b,), without a gradient; may be negative.

    Parameters
    ----------
    losses : float (b,), of this process's part of the batch
    sources : int64 (b,), number of each sample's source
    count : int, number of sources
    penalty : float, 0 or more
    """
    losses = losses.detach()
    member = torch.nn.functional.one_hot(sources, count).to(losses.dtype)
    # Products: sums scattered to their sources would come out differently from run to run on some devices.
    sums, counts = group.all_reduce(torch.stack([losses @ member, member.sum(dim=0)]))
    mean = sums.sum() / counts.sum()
    excess = sums / counts.clamp_min(1) - mean
    return 1 + 2 * penalty * excess[sources]
