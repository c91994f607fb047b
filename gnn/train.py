"""Training of the relation vectors with a ranking loss, early stop on validation NDCG@10."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from ..config import GnnSection
from ..errors import CatalographError
from ..kg.log import InteractionLog
from .model import RelationalEncoder, encoder_named


@dataclass(frozen=True)
class RelationVectors:
    """Trained vectors. scores of a user = unit(sum_k decay[k] items[h_k] @ projection) . items / temperature.

    items: float32 [item, dim], unit length. by_relation: R_s, float32 [item, relation, dim]. decay: float32 [history],
    newest first. projection: float32 [dim, dim]. validation: NDCG@10 per epoch. state: the weights, to start from.
    """

    items: np.ndarray
    relations: tuple[str, ...]
    by_relation: np.ndarray
    decay: np.ndarray
    projection: np.ndarray
    temperature: float
    validation: tuple[float, ...]
    state: dict[str, Tensor]


class _Ranker(nn.Module):
    """Item vectors, and the query of a history: a decayed sum of the newest items times a matrix."""

    def __init__(self, encoder: nn.Module, dim: int, history: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decay = nn.Parameter(torch.zeros(history))
        self.projection = nn.Parameter(torch.eye(dim) + 0.01 * torch.randn(dim, dim))

    def queries(self, items: Tensor, histories: Tensor) -> Tensor:
        """float32 [event, dim] of unit length; histories int64 [event, history], len(items) = none."""
        padded = torch.cat([items, items.new_zeros(1, items.size(1))])
        summed = (padded[histories] * self.decay.exp()[None, :, None]).sum(1)
        return F.normalize(summed @ self.projection, dim=1)


def train_relational(
    data: HeteroData,
    item: str,
    log: InteractionLog,
    text: np.ndarray | None,
    section: GnnSection,
    *,
    exclude: frozenset[str],
    valid: tuple[np.ndarray, np.ndarray] | None,
    seed: int,
    device: str = "cpu",
    init: RelationVectors | None = None,
) -> RelationVectors:
    """Fit on the events of `log` (training only, sorted by user, oldest first).

    Loss: softmax at `temperature` of the true next item among sampled and in-batch items (van den Oord et al. 2018).
    `valid` (users, items; int64 [n] pairs) stops the training and picks the epoch; without it all epochs run.
    Equal seeds give equal results on the CPU.

    Raises:
        CatalographError: the loss is not finite.
    """
    torch.manual_seed(seed)
    text_tensor = None if text is None else torch.from_numpy(text).to(device)
    made = encoder_named(section.model)(
        data,
        item,
        dim=section.dim,
        layers=section.layers,
        exclude=exclude,
        text_dim=0 if text is None else text.shape[1],
    )
    model = _Ranker(made, section.dim, section.history).to(device)
    if init is not None:
        model.load_state_dict(init.state)
    histories, targets = _examples(log, section.history)
    bought = torch.from_numpy(np.bincount(log.item, minlength=log.n_items) > 0).to(device)
    steps = section.epochs * -(-len(targets) // section.batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=section.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=steps)
    measured: list[float] = []
    best = {name: value.clone() for name, value in model.state_dict().items()}
    for epoch in range(section.epochs):
        order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed * 1000 + epoch))
        for batch in order.split(section.batch_size):
            loss = _loss(model, text_tensor, histories[batch].to(device), targets[batch].to(device), bought, section)
            if not torch.isfinite(loss):
                raise CatalographError(f"the GNN's loss is {loss.item()} in epoch {epoch}; lower gnn.learning_rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        if valid is not None:
            measured.append(_ndcg(model, text_tensor, bought, log, valid, section.history))
            if measured[-1] < max(measured) and epoch - int(np.argmax(measured)) >= section.patience:
                break
        if valid is None or measured[-1] == max(measured):
            best = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best)
    return _result(model, text_tensor, bought, section, tuple(measured))


def _examples(log: InteractionLog, history: int) -> tuple[Tensor, Tensor]:
    """For each event with a past: the user's `history` events before it, newest first (n_items = none), and its item."""
    past = newest(log, history, shift=1)
    useful = past[:, 0] < log.n_items
    return torch.from_numpy(past[useful]), torch.from_numpy(log.item[useful])


def newest(log: InteractionLog, history: int, *, shift: int) -> np.ndarray:
    """int64 [event, history]: items of the same user `shift`, shift + 1, … events back; n_items where there is none."""
    back = np.arange(len(log))[:, None] - shift - np.arange(history)[None]
    same = (back >= 0) & (log.user[np.maximum(back, 0)] == log.user[:, None])
    return np.where(same, log.item[np.maximum(back, 0)], log.n_items)


def _loss(
    model: _Ranker, text: Tensor | None, histories: Tensor, targets: Tensor, bought: Tensor, section: GnnSection
) -> Tensor:
    dropped = torch.rand(len(bought), device=bought.device) < section.id_dropout
    items = model.encoder(text, ~bought | dropped)
    query = model.queries(items, histories)
    sampled = torch.randint(len(items), (section.negatives,), device=items.device)
    in_batch = targets[torch.randint(len(targets), (section.negatives // 4,), device=items.device)]
    negatives = torch.cat([sampled, in_batch])
    right = (query * items[targets]).sum(1, keepdim=True) / section.temperature
    wrong = (query @ items[negatives].T) / section.temperature
    wrong = wrong.masked_fill(targets[:, None] == negatives[None], -torch.inf)
    return F.cross_entropy(torch.cat([right, wrong], 1), torch.zeros_like(targets))


@torch.no_grad()
def _ndcg(
    model: _Ranker,
    text: Tensor | None,
    bought: Tensor,
    log: InteractionLog,
    valid: tuple[np.ndarray, np.ndarray],
    history: int,
) -> float:
    """NDCG@10 on held-out pairs, each pair judged alone, the user's events masked."""
    users, wanted = valid
    distinct, row = np.unique(users, return_inverse=True)
    ends = np.searchsorted(log.user, distinct, side="right") - 1
    items = model.encoder(text, ~bought)
    query = model.queries(items, torch.from_numpy(newest(log, history, shift=0)[ends]).to(items.device))
    scores = (query @ items.T).cpu()
    place = np.searchsorted(distinct, log.user).clip(max=len(distinct) - 1)
    seen = distinct[place] == log.user
    scores[place[seen], log.item[seen]] = -torch.inf
    of_pair = scores[row]
    rank = (of_pair > of_pair[torch.arange(len(wanted)), torch.from_numpy(wanted)][:, None]).sum(1).numpy()
    return float(np.where(rank < 10, 1 / np.log2(rank + 2.0), 0).mean())


@torch.no_grad()
def _result(
    model: _Ranker, text: Tensor | None, bought: Tensor, section: GnnSection, measured: tuple[float, ...]
) -> RelationVectors:
    items = model.encoder(text, ~bought)
    relations: tuple[str, ...] = ()
    parts = torch.zeros(len(items), 0, section.dim)
    if isinstance(model.encoder, RelationalEncoder):
        parts, relations = model.encoder.propagate(text, ~bought)[1], model.encoder.relations
    return RelationVectors(
        items.cpu().numpy(),
        relations,
        parts.cpu().numpy(),
        model.decay.exp().cpu().numpy(),
        model.projection.cpu().numpy(),
        section.temperature,
        measured,
        {name: value.detach().cpu().clone() for name, value in model.state_dict().items()},
    )
