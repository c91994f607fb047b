"""What we take of PyG, imported without the notes that torch has for PyG's authors."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
    from torch_geometric import EdgeIndex
    from torch_geometric.data import HeteroData
    from torch_geometric.utils import coalesce, degree, scatter

# told where an EdgeIndex is first multiplied
warnings.filterwarnings("ignore", "Sparse (CSR|invariant)", UserWarning, "torch_geometric")

__all__ = ["EdgeIndex", "HeteroData", "coalesce", "degree", "scatter"]
