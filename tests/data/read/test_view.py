"""Which columns a traced function reads, and that the run-time data answer as the traced ones did."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from mlejax.data import (
    DataError,
    Shared,
    Static,
    assemble,
    ingest,
    pack,
)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def trace(f, data, n_rows=8, mask=False):
    """The output struct of f on the traced data, the columns it reads, and the source."""
    source, reads = ingest(data), set()
    extra = {"mask": jnp.ones(n_rows, bool)} if mask else None
    out = jax.eval_shape(lambda t: f(source.view(t, reads, extra)), source.abstract(n_rows))
    return out, reads, source


def through(f, data, n_rows=8):
    """f on the data as at run time: traced, converted, packed and assembled; jitted."""
    _, reads, source = trace(f, data, n_rows)
    prepared = pack(source.convert(reads), mode="whole")
    return np.asarray(jax.jit(lambda p: f(assemble(p.rows, p.shared, p.statics)))(prepared))


X = [1.5, -2.0, 4.0]
TABLE = {"x": X, "y": [1, 2, 3], "z": [True, False, True]}


@pytest.mark.parametrize(
    ("f", "reads"),
    [
        (lambda d: d["x"], {"x"}),
        (lambda d: d.get("x") + d.get("absent", 0.0), {"x"}),
        (lambda d: d["x"] if "y" in d else 0, {"x", "y"}),
        (lambda d: d["x"] if "absent" not in d else 0, {"x"}),
        (lambda d: sum(d.values()), {"x", "y", "z"}),
        (lambda d: sum(v for _, v in d.items()), {"x", "y", "z"}),
        (lambda d: sum(d[k] for k in d), {"x", "y", "z"}),
        (lambda d: d["x"] * len(d), {"x", "y", "z"}),
        (lambda d: (lambda x, y, z: x)(**d), {"x", "y", "z"}),
        (lambda d: dict(d)["x"], {"x", "y", "z"}),
        (lambda d: {**d, "w": 1}["w"] * d["x"], {"x", "y", "z"}),
        (lambda d: (d | {"w": 1})["w"] * d["x"], {"x", "y", "z"}),
        (lambda d: d.copy()["x"], {"x", "y", "z"}),
        (lambda d: jax.tree.map(lambda a: a + 1, d)["x"], {"x", "y", "z"}),
        (lambda d: jax.vmap(lambda row: row["x"] * row["y"])(d), {"x", "y", "z"}),
    ],
)
def test_reads_are_recorded_and_the_run_time_dict_answers_the_same(f, reads):
    out, seen, source = trace(f, TABLE)
    assert seen == reads
    assert out.shape == (8,)
    rows = source.convert(seen)
    assert set(rows.tree()) == reads
    assert type(rows.tree()) is dict
    plain = {k: np.asarray(v) for k, v in TABLE.items()}
    np.testing.assert_array_equal(np.asarray(through(f, TABLE)), np.asarray(f(plain)))


def test_iteration_order_is_the_users():
    _, reads, source = trace(lambda d: sum(d.values()), {"b": X, "a": X})
    assert list(source.convert(reads).tree()) == ["b", "a"]


def test_scan_over_the_data():
    def f(d):
        return jax.lax.scan(lambda c, row: (c + row["x"], c * row["y"]), 0.0, d)[1]

    np.testing.assert_array_equal(through(f, {"x": X, "y": [1, 2, 3]}), [0.0, 3.0, -1.5])


def test_mask_is_offered_but_not_recorded():
    out, reads, _ = trace(lambda d: jnp.where(d["mask"], d["x"], 0).sum(), TABLE, mask=True)
    assert out.shape == ()
    assert reads == {"x"}
    with pytest.raises(DataError, match="'mask'"):
        trace(lambda d: d["x"], {"x": X, "mask": X}, mask=True)
    with pytest.raises(DataError, match="needs data with column names"):
        trace(lambda d: d, np.array(X), mask=True)


def test_abstract_converts_nothing():
    class Loud(np.ndarray):
        def __array__(self, *args, **kwargs):
            raise AssertionError("converted")

        def astype(self, *args, **kwargs):
            raise AssertionError("converted")

    loud = np.zeros((5, 2), np.float32).view(Loud)
    source = ingest({"x": loud, "text": np.array(["a"] * 5)})
    (struct,) = source.abstract()
    assert struct.shape == (5, 2)
    assert struct.dtype == np.float64
    assert source.abstract(9)[0].shape == (9, 2)
    assert source.n_rows == 5


def test_abstract_of_whole_data_keeps_each_length():
    assert [s.shape for s in ingest({"x": X, "y": [1, 2]}).abstract()] == [(3,), (2,)]
    assert [s.shape for s in ingest({"x": X, "k": Shared(np.zeros((4, 4)))}).abstract(7)] == [(7,), (4, 4)]


def test_signature_tells_structures_apart_and_not_lengths():
    def key(data):
        return ingest(data).signature

    assert key({"x": X}) == key({"x": X * 2})
    assert hash(key({"x": X, "k": Static(1)})) is not None
    different = [
        {"x": X},
        {"x": [1, 2]},
        {"y": X},
        {"x": X, "y": X},
        {"x": [[1.0, 2.0]]},
        {"x": X, "k": Static(1)},
        {"x": X, "k": Static(2)},
        {"x": X, "k": Shared([1.0])},
        {"x": X, "k": Shared([1.0, 2.0])},
        (np.array(X),),
        pd.DataFrame({"x": ["a"]}),
    ]
    assert len({key(d) for d in different}) == len(different)
    assert key(pd.DataFrame({"x": X})) == key(pd.DataFrame({"x": [1.0]}))
