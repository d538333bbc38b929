"""HDF5 writes and reads back; jieba and the tokenizer library cut a sentence."""

import logging
import tempfile
from pathlib import Path

import h5py
import hdf5plugin
import jieba
import numpy as np
import tokenizers


def main() -> None:
    ids = np.arange(10_000, dtype=np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("ids", data=ids, chunks=True, **hdf5plugin.Blosc(cname="zstd"))
        with h5py.File(path, "r") as file:
            assert (file["ids"][:] == ids).all(), "HDF5 gave other numbers back"
    jieba.setLogLevel(logging.WARNING)
    words = jieba.lcut("今天天气很好")
    assert "".join(words) == "今天天气很好"
    print(f"HDF5 {h5py.version.hdf5_version}; jieba {'/'.join(words)}; {tokenizers.__version__=!s}")


if __name__ == "__main__":
    main()
