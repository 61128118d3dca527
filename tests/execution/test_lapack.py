"""Models that factorise a matrix for every unit or data set come to an end, and stand where closed forms say.

jaxlib 0.10 hands parts of one large call of LAPACK to the threads that run such calls, and waits: on two cores most of what
follows waited for ever.  Each case therefore runs in a process of its own, under a time limit.
"""

import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlejax as mle
from mlejax.data import row_blocks
from mlejax.execution import lapack
from mlejax.objective import Spec, blocks

RANDOM_EFFECT = """
import jax, jax.numpy as jnp, numpy as np, mlejax as mle

@mle.model(mu=mle.Real(), s=mle.Positive(), t=mle.Positive(), unit="id")
def one_way(params, data):
    used = data["mask"]
    y = jnp.where(used, data["y"] - params["mu"], 0.0)
    both = used[:, None] & used[None, :]
    v = jnp.diag(jnp.where(used, params["s"] ** 2, 1.0)) + jnp.where(both, params["t"] ** 2, 0.0)
    root = jnp.linalg.cholesky(v)
    z = jax.scipy.linalg.solve_triangular(root, y, lower=True)
    return -0.5 * jnp.sum(z**2) - jnp.sum(jnp.log(jnp.diagonal(root)))

def balanced(y):
    # maximum likelihood of a balanced one-way layout (units, n), in closed form
    units, n = y.shape
    means = y.mean(axis=1)
    within = ((y - means[:, None]) ** 2).sum() / (units * (n - 1))
    between = n * ((means - y.mean()) ** 2).sum() / units
    return y.mean(), np.sqrt(within), np.sqrt((between - within) / n)

START = {"mu": 0.0, "s": 1.0, "t": 1.0}
rng = np.random.default_rng(0)
"""
CASES = {
    "one fit of many units": """
for units, n in ((20_000, 8), (600, 30)):
    y = rng.normal(size=(units, 1)) + rng.normal(size=(units, n))
    res = one_way.fit({"y": y.ravel(), "id": np.repeat(np.arange(units), n)}, START)
    assert res.verdict.code == "verified"
    assert np.allclose(res.params, balanced(y), rtol=1e-6), (res.params, balanced(y))
""",
    "groups of units": """
units, n, groups = 1500, 10, 30
y = rng.normal(size=(units, 1)) + rng.normal(size=(units, n))
table = {"y": y.ravel(), "id": np.repeat(np.arange(units), n), "g": np.repeat(np.arange(units) % groups, n)}
res = one_way.fit_groups(table, by="g", start=START, cov_type="HC0", progress=False)
assert res.converged.all()
for g in range(groups):
    assert np.allclose(res.params.to_numpy()[g], balanced(y[g::groups]), rtol=1e-6)
""",
    "a batch with a covariance": """
@mle.model(mu=mle.Real(shape=3), S=mle.Covariance(3))
def normal(params, data):
    root = jnp.linalg.cholesky(params["S"])
    z = jax.scipy.linalg.solve_triangular(root, (data["y"] - params["mu"]).T, lower=True)
    return -0.5 * jnp.sum(z**2, axis=0) - jnp.sum(jnp.log(jnp.diagonal(root)))

y = rng.normal(size=(500, 200, 3))
res = normal.fit_batch({"y": y}, progress=False)
assert res.converged.all()
lower = np.tril_indices(3)
for i in range(0, 500, 50):
    exact = np.concatenate([y[i].mean(axis=0), np.cov(y[i].T, bias=True)[lower]])
    assert np.allclose(res.params.to_numpy()[i], exact, atol=1e-6), (res.params.iloc[i], exact)
""",
    "a penalty with a determinant": """
def regression(p):
    @mle.model(b=mle.Real(shape=p))
    def line(params, data):
        return -0.5 * (data["y"] - data["x"] @ params["b"]) ** 2
    return line

def penalty(params):
    b = params["b"]
    return jnp.linalg.slogdet(jnp.outer(b, b) + jnp.eye(b.shape[0]))[1]  # = log(1 + b'b)

for p, sets in ((8, 500), (20, 0)):
    x = rng.normal(size=(max(sets, 1), 200, p))
    y = x.sum(axis=2) + rng.normal(size=x.shape[:2])
    if sets:
        estimates = regression(p).fit_batch({"x": x, "y": y}, penalty=penalty, progress=False).params.to_numpy()
    else:
        estimates = np.asarray(regression(p).fit({"x": x[0], "y": y[0]}, penalty=penalty).params)[None]
    for i in range(0, max(sets, 1), 100):
        b = estimates[i]
        score = x[i].T @ (y[i] - x[i] @ b) - 2 * b / (1 + b @ b)
        assert np.abs(score).max() < 1e-5
""",
    "systems with three diagonals": """
@mle.model(s=mle.Positive(), unit="id")
def walk(params, data):  # y = e with variance s^2 T, T tridiagonal and fixed
    used, n = data["mask"], data["y"].shape[0]
    beside = jnp.where(used[1:] & used[:-1], 0.4, 0.0)
    none = jnp.zeros(1)
    right = jnp.where(used, data["y"], 0.0)[:, None]
    x = jax.lax.linalg.tridiagonal_solve(
        jnp.concatenate([none, beside]), jnp.ones(n) * params["s"] ** 0, jnp.concatenate([beside, none]), right
    )
    return -0.5 * jnp.sum(right * x) / params["s"] ** 2 - used.sum() * jnp.log(params["s"])

units, n = 4000, 30
y = rng.normal(size=(units, n))
res = walk.fit({"y": y.ravel(), "id": np.repeat(np.arange(units), n)}, {"s": 1.0})
T = np.eye(n) + 0.4 * (np.eye(n, k=1) + np.eye(n, k=-1))
assert np.allclose(np.asarray(res.params)[0] ** 2, (y * np.linalg.solve(T, y.T).T).sum() / y.size)
""",
}


@pytest.mark.parametrize("case", CASES)
def test_many_factorisations_come_to_an_end(case: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RANDOM_EFFECT + CASES[case]], timeout=200, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@mle.model(s=mle.Positive(), t=mle.Positive(), unit="id")
def own_matrix(params, data):
    used = data["mask"]
    v = jnp.diag(jnp.where(used, params["s"] ** 2, 1.0)) + params["t"] ** 2 * jnp.outer(used, used)
    root = jnp.linalg.cholesky(v)
    return -0.5 * jnp.sum(jax.scipy.linalg.solve_triangular(root, jnp.where(used, data["y"], 0.0), lower=True) ** 2)


@mle.model(S=mle.Covariance(3))
def common_matrix(params, data):
    root = jnp.linalg.cholesky(params["S"])
    return -0.5 * jnp.sum(jax.scipy.linalg.solve_triangular(root, data["y"].T, lower=True) ** 2, axis=0)


@pytest.mark.parametrize("n", [2, 8, 30])
def test_units_are_summed_in_blocks_of_which_no_call_is_cut_up(n: int) -> None:
    ids = np.repeat(np.arange(3000), n)
    block = own_matrix.prepare({"y": np.ones(ids.size), "id": ids}).data.block
    assert block == 1 or 8 * block * n**3 < 200_000
    assert block >= min(3000, 150_000 // (8 * n**3)) // 2


def test_a_matrix_common_to_all_rows_needs_no_small_blocks() -> None:
    assert common_matrix.prepare({"y": np.ones((3000, 3))}).data.block == row_blocks(3000)[1] == 1024


def test_data_sets_side_by_side_are_counted_with_their_blocks() -> None:
    with jax.enable_x64(True):
        prepared = own_matrix.prepare({"y": np.ones(400), "id": np.repeat(np.arange(50), 8)})
        spec = Spec(own_matrix.likelihood, prepared.space)
        whole = blocks.data_sets_at_once(spec, prepared.data, None, None)
    assert prepared.data.block * whole * 8 * 8**3 <= 150_000 < prepared.data.block * (whole + 1) * 8 * 8**3


@pytest.mark.parametrize("way", ["vmap", "map"])
def test_what_cannot_be_taken_apart_is_warned_of(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call for many matrices inside a function of the whole data hangs in plain JAX too."""
    monkeypatch.setattr(lapack, "splits_large_calls", lambda: True)

    @mle.model(s=mle.Positive(), rowwise=False)
    def many(params, data):
        one = lambda y: jnp.linalg.cholesky(jnp.outer(y, y) + params["s"] * jnp.eye(y.shape[0]))[0, 0]
        return jax.lax.map(one, data["y"]) if way == "map" else jax.vmap(one)(data["y"])

    few, enough = {"y": np.ones((10, 10))}, {"y": np.ones((2000, 10))}
    many.prepare(few)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        many.prepare(enough)
    assert len(said) == (way == "vmap")
    assert all("factorises 2000 matrices" in str(w.message) and "jax.lax.map" in str(w.message) for w in said)


def test_the_size_of_shared_arrays_counts() -> None:
    @mle.model(s=mle.Positive())
    def shaped(params, data):
        def one(z):
            v = params["s"] * jnp.eye(data["D"].shape[0]) + z**2 * data["D"]
            return -jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(v))))

        return jax.vmap(one)(data["z"])

    blocks = [shaped.prepare({"z": np.ones(5000), "D": mle.Shared(np.eye(k))}).data.block for k in (2, 10, 40)]
    assert blocks[0] > blocks[1] > blocks[2] == 1
