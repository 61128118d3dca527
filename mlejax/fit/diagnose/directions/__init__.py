"""What the log-likelihood does along directions from the final point of a search: rays, ridges, flat directions, falls."""
