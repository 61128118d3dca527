"""Profile likelihood: intervals, curves and regions of parameters and of functions of them."""

from mlejax.inference.profiles.contour import Contour, contour
from mlejax.inference.profiles.many_profiles import ManyIntervals, profile_intervals_of_many
from mlejax.inference.profiles.profile import End, Profile
from mlejax.inference.profiles.profiling import profile, profile_intervals

__all__ = [
    "Contour",
    "End",
    "ManyIntervals",
    "Profile",
    "contour",
    "profile",
    "profile_intervals",
    "profile_intervals_of_many",
]
