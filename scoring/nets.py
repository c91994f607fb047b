"""The networks behind the heads. Each gives one part per term, and a score is nothing but their sum.

x: term values float32 [user, item, term] divided by their spread. l = sign(x) log(1 + 4|x|) flattens what is large;
r = x / the user's peak of the term says how near the item comes to the best of the user's pool, and at most 1: an item
out of the pool may have what none in it has. c: context features, standardised, at most FAR.

    linear   part_k = w_k x_k
    gated    part_k = a_k(c) l_k + b_k(c) r_k
    mlp      part_k = a_k(c, l, r) l_k + b_k(c, l, r) r_k
    mlps     the mean of several mlp networks' parts
    ensemble the mean of several gated and mlp networks' parts

a and b are a learned constant plus a network that starts at zero. The third is a self-explaining network
(Alvarez-Melis and Jaakkola 2018): as free as a multilayer perceptron over all terms, since every weight sees every
term, and still a sum of parts, with nothing left over to attribute.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

START = 0.1  # of every constant weight: terms are made so that more is better
GATE, HIDDEN, DROPOUT = 16, 64, 0.2
FAR = 10.0  # spreads from the mean; what nearly all items had in common says no more of one that is without it


class Parts(nn.Module):
    """values [user, item, term], features [user, item, feature], peak [user, term] -> parts like values."""

    spread: Tensor

    def __init__(self, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("spread", spread)

    def forward(self, values: Tensor, features: Tensor, peak: Tensor) -> Tensor:
        """float32 [user, item, term]."""
        raise NotImplementedError

    def scores(self, values: Tensor, features: Tensor, peak: Tensor) -> Tensor:
        """float32 [user, item]: the sum of the parts, on a shorter way."""
        raise NotImplementedError


class Linear(Parts):
    """One weight per term; exact over the catalogue, since nothing else is read."""

    def __init__(self, terms: int, features: int) -> None:
        super().__init__(torch.ones(terms))
        self.constant = nn.Parameter(torch.full((terms,), START))

    def forward(self, values: Tensor, features: Tensor, peak: Tensor) -> Tensor:
        """float32 [user, item, term]."""
        return values * (self.constant / self.spread)

    def scores(self, values: Tensor, features: Tensor, peak: Tensor) -> Tensor:
        """float32 [user, item]."""
        return values @ (self.constant / self.spread)


class Gated(Parts):
    """Weights that depend on the kind of item and history, of each term in two transforms."""

    center: Tensor
    width: Tensor

    def __init__(self, terms: int, features: int) -> None:
        super().__init__(torch.ones(terms))
        self.register_buffer("center", torch.zeros(features))
        self.register_buffer("width", torch.ones(features))
        self.constant = nn.Parameter(torch.full((2 * terms,), START))
        self.body = self._body(features, 2 * terms)
        self.last = nn.Linear(self._size, 2 * terms, bias=False)
        nn.init.zeros_(self.last.weight)

    _size = GATE

    def _body(self, features: int, transformed: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(features, GATE), nn.Tanh())

    def _inputs(self, transformed: Tensor, context: Tensor) -> Tensor:
        return context

    def transformed(self, values: Tensor, peak: Tensor) -> Tensor:
        """The terms' two transforms, [user, item, 2 term]."""
        x = values / self.spread
        logs = torch.sign(x) * torch.log1p(4 * x.abs())
        ratios = (x / (peak / self.spread + 1e-6)[:, None]).clamp(-1, 1)
        return torch.cat([logs, ratios], dim=-1)

    def _hidden(self, transformed: Tensor, features: Tensor) -> Tensor:
        """What the body makes of them and the context."""
        context = ((features - self.center) / self.width).clamp(-FAR, FAR)
        hidden: Tensor = self.body(self._inputs(transformed, context))
        return hidden

    def forward(self, values: Tensor, features: Tensor, peak: Tensor) -> Tensor:
        """float32 [user, item, term]."""
        transformed = self.transformed(values, peak)
        parts: Tensor = transformed * (self.constant + self.last(self._hidden(transformed, features)))
        return parts[..., : values.size(-1)] + parts[..., values.size(-1) :]

    def scores(self, values: Tensor, features: Tensor, peak: Tensor) -> Tensor:
        """float32 [user, item]."""
        return self.scores_of(self.transformed(values, peak), features)

    def scores_of(self, transformed: Tensor, features: Tensor) -> Tensor:
        """Scores out of the transforms. t . (constant + W h) = t . constant + (t W) . h needs no weight per item and
        term."""
        hidden = self._hidden(transformed, features)
        score: Tensor = transformed @ self.constant + ((transformed @ self.last.weight) * hidden).sum(-1)
        return score


class Mlp(Gated):
    """The same with weights that also see all the terms."""

    _size = HIDDEN // 2

    def _body(self, features: int, transformed: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(features + transformed, HIDDEN),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, HIDDEN // 2),
            nn.GELU(),
        )

    def _inputs(self, transformed: Tensor, context: Tensor) -> Tensor:
        return torch.cat([transformed, context], dim=-1)


class Mean(Parts):
    """The mean of networks that started differently: what only one of them believes counts less.

    They have learned from the same sample, so their spreads are equal and what they read is computed once.
    """

    def __init__(self, members: Sequence[Parts]) -> None:
        super().__init__(members[0].spread)
        self.members = nn.ModuleList(members)

    def forward(self, values: Tensor, features: Tensor, peak: Tensor) -> Tensor:
        """float32 [user, item, term]."""
        return torch.stack([member(values, features, peak) for member in self.members]).mean(0)

    def scores(self, values: Tensor, features: Tensor, peak: Tensor) -> Tensor:
        """float32 [user, item]."""
        members = [member for member in self.parts() if isinstance(member, Gated)]
        transformed = members[0].transformed(values, peak)
        return torch.stack([member.scores_of(transformed, features) for member in members]).mean(0)

    def parts(self) -> list[Parts]:
        """The networks the mean is of."""
        return [member for member in self.members if isinstance(member, Parts)]
