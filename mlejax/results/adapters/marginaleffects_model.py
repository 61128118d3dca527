"""A result as a model of Python's marginaleffects, of whose abstract class a subclass is made when it is first needed.

marginaleffects evaluates predictions at perturbed coefficients and perturbed rows.  Here a prediction is the function of
`margins` at theta, the free parameters on the natural scale, with the formulas and transforms of the fit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax import inference
from mlejax.data import columns_of
from mlejax.execution import float64
from mlejax.results.doors import reporting
from mlejax.shapes import Data

if TYPE_CHECKING:
    from mlejax.results.adapters.other_names import OtherNames


def adapted(results: OtherNames, of: Callable[..., Any] | None) -> Any:
    """Return the model for marginaleffects, with the rows of the fit as its data.

    Args:
        results: the result.
        of: the quantity to predict, a function as for `margins`; None for the default of `margins`.

    Raises:
        ImportError: marginaleffects is not installed.
    """
    try:
        from marginaleffects.classes import ModelVault
    except ImportError as error:
        raise ImportError("to_marginaleffects needs marginaleffects: pip install marginaleffects") from error
    fit = results._fit
    table = _frame(inference.rows_of(fit, None, "to_marginaleffects")[0])
    designs = () if fit.loaded.designs is None else fit.loaded.designs.used
    outcome = reporting.outcome(fit)
    vault = ModelVault(
        coef=np.array(fit.theta),
        coefnames=np.array(fit.spec.space.theta_labels),
        formula=lambda rows: (None, rows),  # the rows themselves: formulas are evaluated in get_predict
        modeldata=table,
        package="mlejax",
        variable_names=[outcome or table.columns[0], *(name for name in designs or table.columns if name != outcome)],
    )
    made = _class()(results, vault)
    made.function = inference.function_of(fit, of, "integrate")
    return made


def _frame(table: Data) -> Any:
    """Return the one-dimensional columns of a table as a polars DataFrame, string columns as categories in alphabetical
    order.
    """
    import polars as pl

    columns = columns_of(table) or table
    names = list(columns.columns if hasattr(columns, "columns") else columns)
    frame = pl.DataFrame({str(name): np.asarray(columns[name]) for name in names if np.ndim(columns[name]) == 1})
    texts = [name for name, dtype in frame.schema.items() if dtype in (pl.String, pl.Object)]
    levels = {name: [str(v) for v in frame[name].to_list()] for name in texts}
    return frame.with_columns(pl.Series(name, v, dtype=pl.Enum(sorted(set(v)))) for name, v in levels.items())


def _kind(column: Any) -> str:
    """Return marginaleffects' name for the type of a column, by which it chooses the values to compare: "boolean",
    "character", "binary" (all values 0 or 1), "integer" or "numeric".
    """
    if not column.dtype.is_numeric():
        return "boolean" if str(column.dtype) == "Boolean" else "character"
    values = column.to_numpy()
    if ((values == 0) | (values == 1)).all():
        return "binary"
    return "integer" if column.dtype.is_integer() else "numeric"


@lru_cache(maxsize=1)
def _class() -> Any:
    """Return the subclass of marginaleffects' abstract model (made once)."""
    import polars as pl
    from marginaleffects.classes import ModelAbstract

    class ModelMlejax(ModelAbstract):
        """Predictions and covariances of a result of mlejax, for marginaleffects."""

        def validation(self) -> None:
            """Set the types of the columns; replaces marginaleffects' own check, which needs polars below 2."""
            self.coef, self.response_name, self.formula = self.get_coef(), self.find_response(), self.get_formula()
            frame = self.get_modeldata()
            self.vault.variables_type = {name: _kind(frame[name]) for name in frame.columns}

        def get_vcov(self, vcov: Any = True) -> np.ndarray | None:
            if vcov is None or vcov is False:
                return None
            results = self.model if vcov is True else self.model.with_cov(vcov)
            return np.asarray(results._cov.full)

        def get_exog(self, newdata: Data) -> Any:
            return newdata

        @property
        def df_resid(self) -> float:
            return self.model._cov.df

        def get_predict(self, params: np.ndarray, newdata: Data) -> Any:
            fit = self.model._fit
            params_at = lambda theta: fit.spec.space.params_from_theta(theta, fit.fixed)
            with float64():
                if self.__dict__.get("rows") is not newdata:  # the same rows come with many coefficients
                    opened = inference.in_parts(self.function, newdata, params_at, fit.theta, fit.loaded.designs)
                    self.rows, self.opened = newdata, opened
                found = np.ravel(self.opened.call(np.asarray(params), self.opened.made, self.opened.leaves))
            return pl.DataFrame({"rowid": np.arange(found.size, dtype=np.int32), "estimate": found})

    return ModelMlejax
