"""Closed forms: the change of W [d, d_ff] that moves its values at keys K [d_ff, m] by R [d, m].

C [d_ff, d_ff] is the second moment of the keys that are to keep their values. All in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor


def constrained(C: Tensor, K: Tensor, R: Tensor, eps: float = 0.0) -> Tensor:
    """R (K' C^-1 K + eps I)^-1 K' C^-1: with eps = 0 the least change under C that moves W K by exactly R.

    Keys that depend on each other take the pseudo-inverse.
    """
    U = torch.linalg.solve(C, K)
    gram = K.T @ U + eps * torch.eye(K.shape[1], dtype=K.dtype, device=K.device)
    return R @ torch.linalg.pinv(gram, hermitian=True) @ U.T


def weighted(C: Tensor, K: Tensor, R: Tensor, count: float) -> Tensor:
    """R K' (count C + K K')^-1: least squares over the new keys and `count` old ones.

    Solved as R (K' C^-1 K + count I)^-1 K' C^-1, the same by the push-through identity and smaller.
    """
    return constrained(C, K, R, count)


def projected(P: Tensor, K: Tensor, R: Tensor, ridge: float, earlier: Tensor | None = None) -> Tensor:
    """R K' P (K_p K_p' P + K K' P + ridge I)^-1: least squares among the changes that leave keys outside P alone.

    `earlier` is K_p K_p' [d_ff, d_ff] of keys whose values are to stay.
    """
    identity = torch.eye(len(P), dtype=P.dtype, device=P.device)
    gram = K @ K.T if earlier is None else K @ K.T + earlier
    return torch.linalg.solve(P @ gram + ridge * identity, P @ K @ R.T).T


def inconsistent(C: Tensor, K: Tensor, first: Tensor, R: Tensor) -> Tensor:
    """R (U' K_1)^-1 U' with U = C^-1 K: constrained at the keys K_1, in the directions of the keys K."""
    U = torch.linalg.solve(C, K)
    return R @ torch.linalg.solve(U.T @ first, U.T)


def low_energy(C: Tensor, fraction: float | None, threshold: float | None) -> Tensor:
    """The projector on eigenvectors of C: the lowest `fraction` of them, or those of eigenvalue below `threshold`."""
    energies, vectors = torch.linalg.eigh(C)
    kept = int((energies < threshold).sum()) if threshold is not None else round((fraction or 0.0) * len(C))
    return vectors[:, :kept] @ vectors[:, :kept].T
