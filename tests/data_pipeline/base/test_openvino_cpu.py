"""OpenVINO is imported without the report that it sends at every import."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, socket, sys, threading
asked = []
def refuse(self, address, *_):
    asked.append(str(address))
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda host, *_, **__: asked.append(str(host)) or []
{imported}
for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join(2)
print(json.dumps({{"telemetry": "openvino_telemetry.main" in sys.modules, "asked": asked}}))
"""


def what_happens(imported: str, tmp_path) -> dict:
    variables = {"HOME": str(tmp_path), "PATH": ""}  # no CI, where it keeps still by itself
    words = [sys.executable, "-W", "ignore", "-c", PROGRAM.format(imported=imported)]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_it_reports_nothing(tmp_path):
    imported = "from data_pipeline.base.openvino_cpu import has_bfloat16; has_bfloat16()"
    assert what_happens(imported, tmp_path) == {"telemetry": False, "asked": []}


def test_without_this_it_would_load_what_reports(tmp_path):
    """If this fails, OpenVINO has changed, and `runtime` may not be needed any more."""
    pytest.importorskip("openvino_telemetry")
    assert what_happens("import openvino", tmp_path)["telemetry"]


def test_the_package_can_be_imported_afterwards(tmp_path):
    imported = (
        "from data_pipeline.base.openvino_cpu import runtime; runtime(); import openvino_telemetry"
    )
    assert not what_happens(imported, tmp_path)["asked"]
