"""The placeholder for rows that are not in memory: of a stream, or of groups that an engine fitted."""

from __future__ import annotations

from typing import Any

from mlejax.data.errors import DataError

OF_ROWS = (
    "this needs all rows in memory, and the data are a stream (mle.Parquet or mle.Stream). Streams support estimates, "
    "tests, intervals (wald), functions (nlcom), predictions for new data, one-step resampling, and the covariances nonrobust, "
    "opg, HC0 to HC4 and cluster; for profiles, exact refits, margins, score_obs and checks by row fit a "
    "sample in memory"
)


class Elsewhere:
    """Placeholder for data that are not in memory: has the attributes ``known``, and raises DataError for all others.

    Attributes whose names begin with two underscores raise AttributeError, as Python's protocols expect.

    Args:
        refusal: message of the DataError; by default that of a stream.
        **known: attributes and their values.
    """

    def __init__(self, refusal: str = OF_ROWS, **known: object) -> None:
        self.__dict__.update(known, refusal=refusal)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise DataError(self.__dict__.get("refusal", OF_ROWS))

    def __call__(self, *_: object) -> Any:
        """Raise DataError with the message ``refusal``."""
        raise DataError(self.refusal)

    def __getitem__(self, _: object) -> Any:
        raise DataError(self.refusal)
