"""What a table of numbers is kept with: versions, machine and date."""

import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def circumstances(*packages: str) -> dict[str, Any]:
    """Date, Python, machine, load, flags of XLA, and the versions of mlejax, JAX, NumPy and these packages."""
    versions = {}
    for package in ("mlejax", "jax", "jaxlib", "numpy", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        names = [x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
        cpu = names[0] if names else cpu
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "system": platform.platform(),
        "cpu": cpu, "cores_of_the_machine": os.cpu_count(), "load_before": load, "versions": versions,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }  # fmt: skip


def keep(name: str, record: dict[str, Any]) -> None:
    """Write ``benchmarks/results/name.json``."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
