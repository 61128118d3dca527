"""Resampling: bootstrap, jackknife, cross-validation, and data simulated from a model."""

from mlejax.inference.resampling.bootstrap import Bootstrap, BootstrapKind, bootstrap
from mlejax.inference.resampling.cross_validation import CrossValidation, cross_validate
from mlejax.inference.resampling.jackknife import Jackknife, jackknife
from mlejax.inference.resampling.simulator import simulate, simulate_fit
from mlejax.inference.resampling.split_panel import SplitPanel, split_panel

__all__ = [
    "Bootstrap",
    "BootstrapKind",
    "CrossValidation",
    "Jackknife",
    "SplitPanel",
    "bootstrap",
    "cross_validate",
    "jackknife",
    "simulate",
    "simulate_fit",
    "split_panel",
]
