"""Log-densities that hold through their limits, and distribution functions for censored rows."""
