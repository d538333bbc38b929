"""The doctor names what is installed, what is missing, and which extra would install it."""

import importlib.metadata

from launch import doctor


def test_a_library_of_an_extra_is_not_called_missing(monkeypatch):
    requirements = [
        "numpy<2",
        "no-such-library>=1",
        "no-such-gpu-library==1; extra == 'gpu'",
        'no-such-server; extra == "serve"',
        'numpy; extra == "dev"',
        "ppminilm-fleet[serve]; extra == 'dev'",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requirements)
    assert doctor.versions() == {
        "numpy": importlib.metadata.version("numpy"),
        "no-such-library": "missing",
        "no-such-gpu-library": "not installed (extra gpu)",
        "no-such-server": "not installed (extra serve)",
    }
