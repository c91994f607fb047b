"""SASRec as a baseline: a transformer that reads a history and says what comes next (Kang and McAuley 2018)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..seeding import seeded
from .evidence import Evidence, Histories
from .profiles import USER
from .terms import LowRank

DIM, HEADS, LAYERS, LENGTH, DROPOUT = 64, 2, 2, 50, 0.2
RATE, BATCH = 0.002, 16  # of Adam; histories of a step
CANDIDATES = 8_192  # items the right one is told from: all of a small catalogue, so many drawn ones of a large one


def sasrec(evidence: Evidence, *, ahead: int, seed: int = 0) -> Iterator[LowRank]:
    """A term after every epoch over all histories; equal seeds give equal terms.

    ahead: what is to be said at a place of a history is one of so many items after it, drawn anew each time. 1 is the
    paper's next item; where baskets make the next one a matter of chance, more are better (Pancha et al. 2022).
    The loss is a softmax over the catalogue instead of the paper's one negative an item, which is what SASRec needs to
    be hard to beat (Klenitskiy and Vasilev 2023).
    """
    lessons, newest = _windows(evidence.histories), _newest(evidence.histories)
    with seeded(seed):
        model = _Reader(evidence.n_items)
    optimizer, epoch = torch.optim.Adam(model.parameters(), lr=RATE), 0
    while True:
        epoch += 1
        with seeded(seed + epoch):
            _epoch(model, optimizer, lessons, ahead)
        yield LowRank("SASRec", USER, _queries(model, newest), model.items.weight[:-1].detach().numpy().copy())


class _Reader(nn.Module):
    """Items, int64 [history, n], to what is wanted after each of them, float32 [history, n, DIM]."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items + 1, DIM, padding_idx=n_items)
        self.places = nn.Embedding(LENGTH, DIM)
        layer = nn.TransformerEncoderLayer(DIM, HEADS, DIM, DROPOUT, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, LAYERS, norm=nn.LayerNorm(DIM), enable_nested_tensor=False)
        self.dropout = nn.Dropout(DROPOUT)
        for embedding in (self.items, self.places):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, histories: Tensor) -> Tensor:
        n = histories.size(1)
        read = self.items(histories) * DIM**0.5 + self.places.weight[:n]
        mask = nn.Transformer.generate_square_subsequent_mask(n)  # histories end in padding, which is never looked at
        return self.body(self.dropout(read), mask=mask, is_causal=True)  # type: ignore[no-any-return]


def _epoch(model: _Reader, optimizer: torch.optim.Optimizer, lessons: Tensor, ahead: int) -> None:
    nothing = model.items.num_embeddings - 1
    model.train()
    for rows in torch.randperm(len(lessons)).split(BATCH):
        read, place = lessons[rows, :-1], torch.arange(LENGTH)
        last = (lessons[rows] != nothing).sum(1, keepdim=True) - 1
        later = torch.minimum(place + torch.randint(1, ahead + 1, read.shape), last)
        there = place < last
        loss = _loss(model, model(read)[there], lessons[rows].gather(1, later)[there])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _loss(model: _Reader, queries: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy in nats of the wanted items int64 [n] among candidates, given queries float32 [n, DIM]."""
    n_items = model.items.num_embeddings - 1
    drawn = torch.randint(n_items, (CANDIDATES,)) if n_items > CANDIDATES else torch.arange(n_items)
    others = (queries @ model.items(drawn).T).masked_fill(wanted[:, None] == drawn, -torch.inf)
    right = (queries * model.items(wanted)).sum(1, keepdim=True)
    return F.cross_entropy(torch.cat([right, others], 1), torch.zeros_like(wanted))


@torch.no_grad()
def _queries(model: _Reader, newest: Tensor) -> np.ndarray:
    """float32 [user, DIM]: what each wants next; zeros for users without a history."""
    model.eval()
    length = (newest != model.items.num_embeddings - 1).sum(1)
    found = torch.zeros(len(newest), DIM)
    for rows in length.nonzero().ravel().split(4 * BATCH):
        found[rows] = model(newest[rows])[torch.arange(len(rows)), length[rows] - 1]
    return found.numpy()


def _windows(histories: Histories) -> Tensor:
    """int64 [window, LENGTH + 1]: the histories cut from their ends, each part starting with the item that the part
    before ended with; the number of items stands where there is none."""
    part, place = np.divmod(histories.back, LENGTH)
    keys = histories.user * (part.max(initial=0) + 2) + part
    ends = (place == 0) & (part > 0)  # the newest item of an older part is where the newer one starts
    keys, place = np.append(keys, keys[ends] - 1), np.append(place, np.full(ends.sum(), LENGTH))
    item = np.append(histories.item, histories.item[ends])
    window = np.unique(keys, return_inverse=True)[1]
    rows = np.full((window.max(initial=-1) + 1, LENGTH + 1), histories.n_items)
    length = np.zeros(len(rows), np.int64)
    np.maximum.at(length, window, place + 1)
    rows[window, length[window] - 1 - place] = item
    return torch.from_numpy(rows[length > 1])


def _newest(histories: Histories) -> Tensor:
    """int64 [user, LENGTH]: the newest items of each, oldest first, then the number of items."""
    rows = np.full((histories.n_users, LENGTH), histories.n_items)
    kept = histories.back < LENGTH
    user, back, item = histories.user[kept], histories.back[kept], histories.item[kept]
    length = np.bincount(user, minlength=histories.n_users)
    rows[user, length[user] - 1 - back] = item
    return torch.from_numpy(rows)
