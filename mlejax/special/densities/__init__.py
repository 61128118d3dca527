"""Log-densities that are accurate near and at their limiting distributions, and distribution functions for censored rows."""
