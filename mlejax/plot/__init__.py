"""Pictures of results; each takes and returns matplotlib Axes, and works for a result loaded from a file too.

Profiles, contours, residuals, influence, margins and simulation studies have a ``plot()`` method.
"""

from mlejax.plot.bands import predictions
from mlejax.plot.batches import estimates
from mlejax.plot.coefficients import coefficients
from mlejax.plot.outcomes import density, kaplan_meier, survival
from mlejax.plot.searches import convergence, modes

__all__ = ["coefficients", "convergence", "density", "estimates", "kaplan_meier", "modes", "predictions", "survival"]
