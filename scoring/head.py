"""Heads: the learned function f over the terms of the pooled items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .pool import softmax_loss


@dataclass(frozen=True)
class LinearHead:
    """score = sum_k weights[k] * term_k. weights: float64 [term], already divided by each term's spread."""

    weights: np.ndarray

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """float32 like `values` [..., term]: each term's part; they add up to the score."""
        return np.asarray(values * self.weights.astype(np.float32))

    def scores(self, values: np.ndarray) -> np.ndarray:
        """float32 [...] from term values [..., term]."""
        return np.asarray(values @ self.weights.astype(np.float32))


def fit_linear(
    values: np.ndarray, target: np.ndarray, *, seed: int, epochs: int = 10, batch: int = 128, device: str = "cpu"
) -> LinearHead:
    """Softmax over each user's pool; values float32 [user, pool, term], target bool [user, pool].

    Users whose pool holds none of their held-out items teach nothing and are skipped: a held-out item forced into
    the pool would teach the head to tell pooled from unpooled items instead of good from bad.
    AdamW, learning rate .03 falling linearly to 0.
    """
    torch.manual_seed(seed)
    useful = np.flatnonzero(target.any(1))
    spread = values.reshape(-1, values.shape[-1]).std(0) + 1e-8
    scale = torch.from_numpy(spread).to(device)
    weight = torch.nn.Parameter(torch.full((values.shape[-1],), 0.1, device=device))
    optimizer = torch.optim.AdamW([weight], lr=0.03, weight_decay=1e-3)
    steps = epochs * max(-(-len(useful) // batch), 1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        order = random.permutation(useful)
        for start in range(0, len(order), batch):
            rows = np.sort(order[start : start + batch])
            x = torch.from_numpy(values[rows]).to(device) / scale
            loss = softmax_loss(x @ weight, torch.from_numpy(target[rows]).to(device, torch.float32))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return LinearHead((weight.detach().cpu().double() / scale.cpu().double()).numpy())
