"""Resampling: bootstrap, jackknife and cross-validation."""

from mlejax.inference.resampling.bootstrap import Bootstrap, BootstrapKind, bootstrap
from mlejax.inference.resampling.cross_validation import CrossValidation, cross_validate
from mlejax.inference.resampling.jackknife import Jackknife, jackknife
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
    "split_panel",
]
