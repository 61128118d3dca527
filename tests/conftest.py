"""What all tests share: hypothesis profiles (the conftest above guards JAX's flags, in docstrings too)."""

import os

from hypothesis import HealthCheck, settings

# Compilation makes first examples slow at random, so no deadline; the same examples every time unless asked otherwise
# (HYPOTHESIS_PROFILE=explore), so that a failure is a failure for everyone.
_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("ci", derandomize=True, database=None, max_examples=50, **_common)
settings.register_profile("dev", derandomize=True, database=None, max_examples=25, **_common)
settings.register_profile("explore", max_examples=500, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

# The models of the reference cases are data for `tests.cases`, and scripts that made references need further packages.
collect_ignore_glob = ["cases/*/model.py", "references/*.py"]
