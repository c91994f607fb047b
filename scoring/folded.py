"""Many terms at once, without keeping what each gives every item: their blend, and their values at a few items.

A catalogue's scores of one term are as large as those of all of them together. A pool needs the sum over the catalogue
and each term's value only where the sum is large, so the sum is made in two arrays, whatever the number of terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from .product import as_operand, as_tensor, multiply
from .terms import ItemItem, LowRank, Prior, ProfileRows, Term


def blended(terms: Sequence[Term], weights: np.ndarray, rows: ProfileRows) -> np.ndarray:
    """float32 [user, item]: the terms' scores, each times its weight [term], summed up."""
    used = [(term, np.float32(weight)) for term, weight in zip(terms, weights, strict=True) if weight]
    users = next(iter(rows.values())).shape[0]
    total = np.zeros((users, terms[0].n_items), np.float32)
    room = np.empty_like(total)
    sums, part = torch.from_numpy(total), torch.from_numpy(room)
    operands = {name: as_operand(matrix) for name, matrix in rows.items()}
    for term, weight in used:
        if isinstance(term, ItemItem):
            multiply(operands[term.profile], term.operand, room)
            sums.add_(part, alpha=float(weight))
    for queries, right in _products([(term, weight) for term, weight in used if isinstance(term, LowRank)], rows):
        sums.addmm_(torch.from_numpy(queries), as_tensor(right).T)
    priors = [weight * term.values for term, weight in used if isinstance(term, Prior)]
    if priors:
        total += np.sum(priors, axis=0)
    return total


def _products(used: Sequence[tuple[LowRank, np.float32]], rows: ProfileRows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Queries float32 [user, d] and vectors [item, d]: terms over the same vectors are one product."""
    found: dict[object, tuple[np.ndarray, np.ndarray]] = {}
    for term, weight in used:
        place = (term.right.ctypes.data, term.right.shape)  # a bundle's terms are views of one array
        queries = weight * term.queries(rows)
        found[place] = (found[place][0] + queries if place in found else queries, term.right)
    yield from found.values()


def values_at(terms: Sequence[Term], rows: ProfileRows, items: np.ndarray) -> np.ndarray:
    """float32 [user, n, term] of each user's own items int64 [user, n]; an empty place, -1, reads as item 0."""
    items = np.maximum(items, 0)
    found = np.empty((*items.shape, len(terms)), np.float32)
    room = np.empty((len(items), terms[0].n_items), np.float32)
    operands = {name: as_operand(matrix) for name, matrix in rows.items()}
    for number, term in enumerate(terms):
        if isinstance(term, ItemItem):
            multiply(operands[term.profile], term.operand, room)
            found[..., number] = np.take_along_axis(room, items, 1)
        elif isinstance(term, LowRank):
            found[..., number] = np.matmul(term.right[items], term.queries(rows)[:, :, None])[..., 0]
        else:
            found[..., number] = term.values[items]
    return found
