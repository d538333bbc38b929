"""VisualDL writes a scalar and reads it back."""

import tempfile
from pathlib import Path

from visualdl import LogReader, LogWriter


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with LogWriter(logdir=folder) as writer:
            writer.add_scalar(tag="loss/total", step=1, value=0.5)
        reader = LogReader(file_path=str(next(Path(folder).iterdir())))
        value = reader.get_data("scalar", "loss/total")[0].value
        assert value == 0.5, value
    print("a scalar written and read back")


if __name__ == "__main__":
    main()
