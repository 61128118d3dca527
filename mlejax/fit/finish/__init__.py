"""From the final point of a search to a `Fit`: estimates on the natural scale, their derivatives, and the verdict."""
