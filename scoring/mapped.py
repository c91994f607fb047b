"""Arrays of a safetensors file where they lie on disk: processes that read the same bundle share one copy in memory.

The format (huggingface.co/docs/safetensors): eight bytes say how long the JSON header is, the header says where in the
rest each array begins and ends. The library's own reader for numpy copies every array.
"""

from __future__ import annotations

import json
import mmap
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

DTYPES = {
    "BOOL": np.bool_,
    "I8": np.int8,
    "U8": np.uint8,
    "I16": np.int16,
    "U16": np.uint16,
    "I32": np.int32,
    "U32": np.uint32,
    "I64": np.int64,
    "U64": np.uint64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}


def mapped(file: Path) -> dict[str, np.ndarray]:
    """The arrays by name, read-only. A file that is replaced or unlinked meanwhile stays as it was.

    Raises:
        OSError: no such file. ValueError, KeyError, TypeError: the header is torn, or says what the file does not hold.
    """
    with file.open("rb") as handle:
        held = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)  # torch takes no memory that is read-only
    size = int.from_bytes(held[:8], "little")
    if size > len(held) - 8:
        raise ValueError(f"{file.name} ends within its header")
    header: dict[str, Any] = json.loads(held[8 : 8 + size])
    header.pop("__metadata__", None)
    return {name: _array(held, 8 + size, entry, name) for name, entry in header.items()}


def _array(held: mmap.mmap, base: int, entry: dict[str, Any], name: str) -> np.ndarray:
    dtype, (start, end) = np.dtype(DTYPES[entry["dtype"]]), entry["data_offsets"]
    count = prod(entry["shape"])
    if not 0 <= start <= end <= len(held) - base or end - start != count * dtype.itemsize:
        raise ValueError(f"{name} lies beyond the end of the file, or is not of its size")
    array: np.ndarray = np.frombuffer(held, dtype, count, base + start).reshape(entry["shape"])
    array.flags.writeable = False
    return array
