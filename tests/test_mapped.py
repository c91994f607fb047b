"""Arrays mapped from a safetensors file are those the library reads, and a torn file is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

from catalograph.scoring.mapped import DTYPES, mapped

ARRAYS = hnp.arrays(st.sampled_from(list(DTYPES.values())), hnp.array_shapes(min_dims=0, min_side=0, max_side=5))


@given(st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"), ARRAYS, min_size=1))
def test_they_are_what_the_library_reads(tmp_path_factory, arrays):
    file = tmp_path_factory.mktemp("mapped") / "a.safetensors"
    save_file(arrays, file, metadata={"who": "us"})
    found, expected = mapped(file), load_file(file)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_they_cannot_be_written_to_and_outlive_the_file(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"a": np.arange(1_000.0)}, file)
    array = mapped(file)["a"]
    file.unlink()
    assert array.sum() == 499_500
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


@given(st.integers(0, 99))
def test_a_torn_file_is_refused(tmp_path_factory, percent):
    file = tmp_path_factory.mktemp("torn") / "a.safetensors"
    save_file({"a": np.arange(10.0), "b": np.arange(3)}, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * percent // 100])
    with pytest.raises(ValueError, match=r".*"):
        mapped(file)


@pytest.mark.parametrize(
    "entry", [("F64", [2], [0, 24]), ("F64", [4], [0, 24]), ("F64", [1], [24, 32]), ("F64", [1], [-8, 0])]
)
def test_a_header_that_lies_is_refused(tmp_path, entry):
    header = json.dumps({"a": dict(zip(("dtype", "shape", "data_offsets"), entry, strict=True))}).encode()
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + bytes(24))
    with pytest.raises(ValueError, match="a lies beyond"):
        mapped(tmp_path / "a")
