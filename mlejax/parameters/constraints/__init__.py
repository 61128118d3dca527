"""Equality constraints: some coordinates stay free ("kept"), the others are determined by them."""
