"""From an end to a finished fit: estimates in natural coordinates, labels, and the verdict."""
