"""Crafted headers of GGUF files, which keep the library busy for ever or end in an exception of any class."""

import struct
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rank_search.config import ModelConfig
from rank_search.core.errors import InputError
from rank_search.models.gguf_header import check_gguf_header
from rank_search.models.load import read_config

HUGE = 2**62


def header(values: int, *, tensors: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, values)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


CRAFTED = {
    "array of bytes": header(1) + text("a") + struct.pack("<IIQ", 9, 0, HUGE) + bytes(64),
    "array of a billion bytes": header(1) + text("a") + struct.pack("<IIQ", 9, 0, 10**9) + bytes(64),
    "array of strings": header(1) + text("a") + struct.pack("<IIQ", 9, 8, HUGE) + bytes(64),
    "arrays in arrays": header(1) + text("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 3000,
    "string": header(1) + struct.pack("<Q", HUGE),
    "number of values": header(HUGE),
    "type": header(1) + text("a") + struct.pack("<I", 77),
    "version": header(0, version=9),
    "magic": b"GGML" + header(0)[4:],
    "nothing": b"",
}


@pytest.mark.parametrize("crafted", CRAFTED)
def test_crafted_headers_are_refused_at_once(tmp_path, crafted) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(CRAFTED[crafted])
    with pytest.raises(ValueError, match=r"a value of|within its header|arrays within|unknown type|first bytes"):
        check_gguf_header(file)
    with pytest.raises(InputError, match=r"model.source: .* can't be loaded .*; its files are damaged"):
        read_config(ModelConfig(source=str(file)))


def test_a_file_that_the_library_writes_is_right(tmp_path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_array("words", ["one", "two"])
    writer.add_array("numbers", [1.5, 2.5])
    writer.add_bool("yes", True)
    writer.add_uint64("big", 2**40)
    writer.add_tensor("t", np.zeros((2, 2), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_gguf_header(tmp_path / "model.gguf")


@settings(max_examples=200)
@given(st.binary(max_size=80))
def test_any_bytes_after_a_right_start_are_right_or_refused(tmp_path_factory, rest) -> None:
    file: Path = tmp_path_factory.getbasetemp() / "any.gguf"
    file.write_bytes(header(3) + rest)
    with suppress(ValueError):
        check_gguf_header(file)
