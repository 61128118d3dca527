"""Tables of polars, pyarrow, DuckDB and xarray, and records, give what a dict of arrays gives, and are answered in their kind."""

from __future__ import annotations

import datetime
import decimal
import pickle
import sys
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
import xarray as xr
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.data import DataError, DataTypeError, ingest, like

N = 120


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


REG = gaussian.regress(mu="x + C(s)")


def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x, s = rng.standard_normal(N).astype(np.float32), rng.choice(list("abc"), N)
    return {"y": x + (s == "b") + rng.standard_normal(N), "x": x, "s": s, "w": rng.integers(1, 4, N)}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    where = str(tmp_path_factory.mktemp("tables") / "rows.parquet")
    pyarrow.parquet.write_table(pa.table(pd.DataFrame(columns())), where, row_group_size=50)
    return where


FORMS: dict[str, Any] = {
    "polars": lambda path: pl.DataFrame(columns()),
    "lazy": lambda path: pl.scan_parquet(path),
    "arrow": lambda path: pa.table(pd.DataFrame(columns())),
    "dataset": lambda path: pyarrow.dataset.dataset(path),
    "duckdb": lambda path: duckdb.connect().sql(f"SELECT * FROM '{path}'"),
    "xarray": lambda path: xr.Dataset({name: ("row", values) for name, values in columns().items()}),
    "records": lambda path: pd.DataFrame(columns()).to_dict("records"),
    "recarray": lambda path: pd.DataFrame(columns()).to_records(index=False),
    "stream": lambda path: pa.table(pd.DataFrame(columns())).to_reader(),
}
KINDS = {"polars": pl.DataFrame, "lazy": pl.DataFrame, "arrow": pa.Table, "dataset": pa.Table, "stream": pa.Table}


def least_squares() -> np.ndarray:
    """Coefficients of the intercept, x and two dummies, weighted, by NumPy."""
    c = columns()
    design = np.column_stack([np.ones(N), c["x"], c["s"] == "b", c["s"] == "c"]) * np.sqrt(c["w"])[:, None]
    return np.linalg.lstsq(design, c["y"] * np.sqrt(c["w"]))[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_formula_and_weights_and_clusters_on_every_kind(form: str, path: str) -> None:
    options: dict[str, Any] = {"cov_type": "cluster", "cov_kwds": {"groups": "s"}, "weights": "w"}
    res = REG.fit(FORMS[form](path), weight_kind="frequency", **options)
    np.testing.assert_allclose(res.params.to_numpy()[:4], least_squares(), rtol=1e-9)
    with_dict = REG.fit(columns(), weight_kind="frequency", **options)
    np.testing.assert_array_equal(res.bse, with_dict.bse)
    assert list(res.params.index) == list(with_dict.params.index)
    again = pickle.loads(pickle.dumps(res))
    kind = KINDS.get(form, duckdb.DuckDBPyRelation if form == "duckdb" else pd.DataFrame)
    assert isinstance(res.tidy(), kind)
    assert isinstance(again.tidy(), pa.Table if form == "duckdb" else kind)
    assert isinstance(res.glance(), kind)
    new = FORMS[form](path)
    predicted = res.predict(new)
    assert isinstance(predicted, kind)
    values = predicted["estimate"] if form != "duckdb" else predicted.fetchnumpy()["estimate"]
    np.testing.assert_array_equal(np.asarray(values), with_dict.predict(columns())["estimate"])


@pytest.mark.parametrize("form", ["polars", "duckdb", "records"])
def test_groups(form: str, path: str) -> None:
    res = gaussian.fit_groups(FORMS[form](path), by="s")
    c = columns()
    means = {str(label): float(res.params.loc[label, "mu"]) for label in res.params.index}
    assert means == pytest.approx({s: c["y"][c["s"] == s].mean() for s in "abc"})
    table = res.tidy()
    assert isinstance(table, KINDS.get(form, duckdb.DuckDBPyRelation if form == "duckdb" else pd.DataFrame))
    assert list(table.columns)[:2] == ["s", "term"]


def test_numbers_are_not_copied() -> None:
    values = np.arange(40.0)
    for table in (pl.DataFrame({"y": values}), pa.table({"y": values})):
        (leaf,) = ingest(table).convert(["y"]).leaves
        assert np.shares_memory(leaf, np.asarray(table["y"].to_numpy()))


def test_only_columns_in_use_are_read(path: str) -> None:
    asked: list[list[str]] = []

    class Watched:
        """A Dataset that tells which columns were asked for."""

        def __init__(self) -> None:
            self.inner = pyarrow.dataset.dataset(path)
            self.schema = self.inner.schema

        def count_rows(self) -> int:
            return int(self.inner.count_rows())

        def to_table(self, columns: list[str]) -> pa.Table:
            asked.append(columns)
            return self.inner.to_table(columns=columns)

    Watched.__module__ = "pyarrow.watched"
    gaussian.fit(Watched())
    REG.fit(Watched(), weights="w", weight_kind="frequency")
    assert [sorted(names) for names in asked] == [["y"], ["s", "w", "x", "y"]]


@pytest.mark.parametrize(
    "kind", [pl.DataFrame, lambda d: pl.DataFrame(d).lazy(), pa.table], ids=["polars", "lazy", "arrow"]
)
def test_missing_values_are_found_and_dropped(kind: Any) -> None:
    data = kind({"y": [1.0, None, 4.0, 1.0, float("nan")], "k": [1, 2, None, 4, 5]})
    with pytest.raises(DataError, match=r"'y': 2 missing values .* rows 1, 4"):
        gaussian.fit(data)
    rows = ingest(data).convert(["y", "k"], missing="drop")
    assert rows.leaves[1].dtype == np.int64, "integers with gaps stay integers"
    np.testing.assert_array_equal(rows["k"], [1, 4])
    assert gaussian.fit(data, missing="drop").params["mu"] == pytest.approx(2.0)


def test_categories_keep_their_order() -> None:
    order = pl.Enum(["low", "mid", "high", "never"])
    data = pl.DataFrame({"y": [1.0, 2.0, 5.0, 4.0, 3.0, 3.5], "s": pl.Series(["high", "low", "mid"] * 2, dtype=order)})
    res = gaussian.regress(mu="C(s)").fit(data)
    assert list(res.params.index)[:3] == ["mu[Intercept]", "mu[C(s)[T.mid]]", "mu[C(s)[T.high]]"]
    assert res.params["mu[Intercept]"] == pytest.approx(2.5)


def test_matrices() -> None:
    values = np.arange(6.0).reshape(3, 2)
    fixed = pl.DataFrame({"X": pl.Series(values, dtype=pl.Array(pl.Float64, 2))})
    arrow = pa.table({"X": pa.FixedSizeListArray.from_arrays(values.reshape(-1), 2)})
    grid = xr.Dataset({"X": (("row", "k"), values), "y": ("row", np.zeros(3))})
    for table in (fixed, arrow, grid):
        np.testing.assert_array_equal(ingest(table).convert(["X"])["X"], values)


def test_a_grid_of_xarray_is_rows_of_points() -> None:
    temperature = np.arange(6.0).reshape(2, 3)
    grid = xr.Dataset({"t": (("year", "place"), temperature)}, {"year": [2001, 2002], "place": [7, 8, 9]})
    rows = ingest(grid).convert()
    np.testing.assert_array_equal(rows["t"], temperature.reshape(-1))
    np.testing.assert_array_equal(rows["year"], [2001, 2001, 2001, 2002, 2002, 2002])
    np.testing.assert_array_equal(rows["place"], [7, 8, 9] * 2)
    with pytest.raises(DataError, match="or the same first dimension"):
        ingest(grid.assign(z=("place", np.zeros(3))))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "b"], "got text"),
        ([datetime.date(2020, 1, 1)] * 2, "got datetime .*seconds since a start"),
        ([decimal.Decimal("1.5")] * 2, r"got decimal .*cast\(pl.Float64\)"),
        ([[1.0], [1.0, 2.0]], "got lists .*same length"),
        ([None, None], "only missing values"),
    ],
)
def test_columns_that_are_no_numbers_are_refused(values: Any, message: str) -> None:
    with pytest.raises(DataTypeError, match=message):
        gaussian.fit(pl.DataFrame({"y": values}))


def test_single_columns_beside_a_dict() -> None:
    c = columns()
    w = pl.Series("w", c["w"])
    mixed = {"y": pa.chunked_array([c["y"][:50], c["y"][50:]]), "g": pl.Series(c["s"])}
    res = gaussian.fit(mixed, weights=w, weight_kind="frequency", cov_type="cluster", cov_kwds={"groups": "g"})
    assert res.params["mu"] == pytest.approx(np.average(c["y"], weights=c["w"]))


def test_a_query_whose_rows_change_their_order_is_refused() -> None:
    """Groups come in any order: a second query would not match the first."""
    turns = iter(range(100))

    def shuffled(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.sample(fraction=1.0, shuffle=True, seed=next(turns))

    lazy = pl.DataFrame(columns()).lazy().map_batches(shuffled)
    table = ingest(lazy)
    table.convert(["y"])
    with pytest.raises(DataError, match=r"rows in another order.*\.collect\(\)"):
        table.convert(["x"])


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    relation = duckdb.sql("SELECT 1.0 AS y")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataTypeError, match=r"pip install 'mlejax\[arrow\]'"):
        gaussian.fit(relation)


def test_margins_over_a_table_of_polars() -> None:
    res = REG.fit(pl.DataFrame(columns()))
    effect = float(res.margins("x").params[0])
    assert effect == pytest.approx(res.params["mu[x]"])
    assert res.margins("x", data=pl.DataFrame(columns()).head(10)).params[0] == pytest.approx(effect)


@pytest.mark.parametrize("dtype", [object, "str"])
def test_unnamed_labels_of_text_become_a_column(dtype: object) -> None:
    """pandas 3 gives labels of text a dtype of their own."""
    results = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.Index(["x", "y"], dtype=dtype))
    assert like(pl.DataFrame({"x": [1]}), results)["index"].to_list() == ["x", "y"]
    assert like(pl.DataFrame({"x": [1]}), results.reset_index(drop=True)).columns == ["a"]
