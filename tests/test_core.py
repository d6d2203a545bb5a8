"""The C programs of tests/core as pytest items; `make test-c` runs them without Python around."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load() -> ModuleType:
    """scripts/test_c.py, which is no package."""
    scripts = str(ROOT / "scripts")
    sys.path.insert(0, scripts)
    try:
        spec = importlib.util.spec_from_file_location("test_c", ROOT / "scripts" / "test_c.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["llmcurl_test_c"] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(scripts)


test_c = load()


@pytest.fixture(scope="module")
def builder():
    return test_c.Builder()


@pytest.fixture(scope="module")
def core(builder):
    return builder.core()


@pytest.mark.timeout(test_c.TIMEOUT + 100)
@pytest.mark.parametrize("name", test_c.suites())
def test_c_program_exits_with_zero(name, builder, core):
    done = test_c.run(builder.program(name, core))
    assert done.returncode == 0, f"{name}: exit code {done.returncode}\n{done.stdout}"
