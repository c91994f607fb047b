"""A few sparse rows times a large sparse matrix, straight into a dense array.

scipy makes a sparse matrix of the answer first, in two passes over the work; MKL, which torch brings on x86, needs one
and leaves the interpreter lock alone meanwhile. Both add in the same order.
"""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp
import torch

FAST = torch.backends.mkl.is_available()
warnings.filterwarnings("ignore", "Sparse CSR", UserWarning, __name__)  # torch says once a process that it is a beta
Operand = sp.csr_matrix | torch.Tensor


def as_operand(matrix: sp.csr_matrix) -> Operand:
    """A float32 matrix as :func:`multiply` wants it; nothing is copied where it lies."""
    return as_sparse(matrix) if FAST and matrix.nnz < 2**31 else matrix  # torch's MKL counts in 32 bits


def as_sparse(matrix: sp.csr_matrix) -> torch.Tensor:
    """The same as torch knows it, float32; nothing is copied where it lies."""
    number = np.int32 if matrix.nnz < 2**31 else np.int64
    kinds = ((matrix.indptr, number), (matrix.indices, number), (matrix.data, np.float32))
    indptr, indices, data = (as_tensor(part.astype(kind, copy=False)) for part, kind in kinds)
    return torch.sparse_csr_tensor(indptr, indices, data, matrix.shape, check_invariants=False)


def multiply(rows: Operand, weights: Operand, out: np.ndarray) -> None:
    """out = rows weights: of operands [user, item] and [item, item] into float32 [user, item]."""
    if isinstance(rows, torch.Tensor) and isinstance(weights, torch.Tensor):
        dense = torch.from_numpy(out)
        torch.addmm(dense, rows, weights, beta=0, out=dense)
    else:
        out[:] = (sp.csr_matrix(rows) @ sp.csr_matrix(weights)).toarray()


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """The same memory. torch warns of arrays it may not write to; to those that are only read here it will not."""
    if not array.flags.writeable:
        array = array.view()
        array.flags.writeable = True
    return torch.from_numpy(array)
