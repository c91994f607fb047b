"""Pools made on a device such as a GPU: the terms' arrays lie there, only histories come and only pools go.

The same sums as in :mod:`.folded`, of many more users at once: a GPU wants few large products.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from .product import as_sparse, as_tensor
from .terms import ItemItem, LowRank, ProfileRows, Term
from .topk import best_of, hide

MOST = 1_024  # users at once
MIB = 256.0  # of scores, where a device does not tell its free memory


def usable_device(name: str | None) -> str:
    """The device of that name; without one, CUDA where there is some.

    Raises:
        ConfigError: it is neither cpu nor cuda, or this machine has no CUDA.
    """
    device = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if device != "cpu" and not re.fullmatch(r"cuda(:\d+)?", device):
        raise ConfigError(f"--device {device} is unknown; say cpu or cuda")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: this machine has no CUDA device; leave it out or say cpu")
    return device


class Placed:
    """Terms whose arrays lie on a device; those that share an array share it there."""

    def __init__(self, terms: Sequence[Term], device: str) -> None:
        self.terms, self.device = tuple(terms), device
        self._there: dict[object, Tensor] = {}
        for term in self.terms:
            self._arrays(term)

    def batch(self) -> int:
        """Users whose blend, and a profile and a term's scores beside it, fit into half of the free memory."""
        profiles = len({term.profile for term in self.terms})
        free = MIB * 2**20
        if self.device.startswith("cuda"):
            free = torch.cuda.mem_get_info(self.device)[0] / 2
        return min(max(int(free / (4 * self.terms[0].n_items * (profiles + 3))), 1), MOST)

    def pooled(
        self, rows: ProfileRows, hidden: sp.csr_matrix, weights: np.ndarray, size: int, allowed: Sequence[np.ndarray]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each bool [item] of `allowed`, items int64 [user, size] and values float32 [user, size, term].

        An empty place, -1, has the values of item 0.
        """
        batch = {name: as_sparse(matrix).to(self.device) for name, matrix in rows.items()}
        full = {name: matrix.to_dense().T for name, matrix in batch.items()}
        blend = torch.zeros(hidden.shape, device=self.device)
        for term, weight in zip(self.terms, weights.tolist(), strict=True):
            if weight:
                blend += weight * self._scores(term, batch, full)
        hide(blend, hidden)
        lists = [self._best(blend, mask, size) for mask in allowed]
        values = [torch.empty(*items.shape, len(self.terms), device=self.device) for items in lists]
        for number, term in enumerate(self.terms):
            scores = self._scores(term, batch, full)
            for items, found in zip(lists, values, strict=True):
                found[..., number] = scores.gather(1, items.clamp(min=0))
        return [(items.cpu().numpy(), found.cpu().numpy()) for items, found in zip(lists, values, strict=True)]

    def _best(self, blend: Tensor, allowed: np.ndarray, size: int) -> Tensor:
        mask = as_tensor(allowed).to(self.device)
        items, best = best_of(blend.masked_fill(~mask, -torch.inf), size)
        return items.masked_fill(best == -torch.inf, -1)

    def _scores(self, term: Term, batch: Mapping[str, Tensor], full: Mapping[str, Tensor]) -> Tensor:
        """float32 [user, item]; batch: profile rows [user, item], sparse, and full: the same [item, user]."""
        arrays = self._arrays(term)
        if isinstance(term, ItemItem):
            return (arrays[0] @ full[term.profile]).T
        if isinstance(term, LowRank):
            left, right = arrays
            query = batch[term.profile] @ left
            return (F.normalize(query, dim=1, eps=1e-12) if term.unit else query) @ right.T
        return arrays[0].expand(len(batch[term.profile]), -1)

    def _arrays(self, term: Term) -> list[Tensor]:
        if isinstance(term, ItemItem):
            weights = term.weights
            return [self._kept(weights.data, lambda: as_sparse(sp.csr_matrix(weights.T)))]
        dense = (term.left, term.right) if isinstance(term, LowRank) else (term.values,)
        return [self._kept(array, partial(as_tensor, array)) for array in dense]

    def _kept(self, array: np.ndarray, made: Callable[[], Tensor]) -> Tensor:
        place = (array.ctypes.data, array.shape, array.strides)
        if place not in self._there:
            self._there[place] = made().to(self.device)
        return self._there[place]
