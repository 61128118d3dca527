"""Ends of profiles: by Newton's method, by walks where that does not reach them, and in words."""
