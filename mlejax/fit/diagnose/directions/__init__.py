"""What the log-likelihood does along directions from an end: rays, ridges, flat directions, falls."""
