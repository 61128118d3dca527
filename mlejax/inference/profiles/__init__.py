"""Profile likelihood: intervals, curves and regions of parameters and of functions of them."""

from mlejax.inference.profiles.contour import Contour, contour
from mlejax.inference.profiles.many_profiles import ManyIntervals, profile_intervals_of_many
from mlejax.inference.profiles.profile import Profile, ProfileEnd
from mlejax.inference.profiles.profiling import profile, profile_intervals

__all__ = [
    "Contour",
    "ManyIntervals",
    "Profile",
    "ProfileEnd",
    "contour",
    "profile",
    "profile_intervals",
    "profile_intervals_of_many",
]
