"""The kernels of linalg against NumPy, their flags, and their behaviour under jit, vmap and differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlejax import linalg


def definite(p: int, seed: int) -> np.ndarray:
    """A random positive definite matrix of unit diagonal."""
    x = np.random.default_rng(seed).normal(size=(p, 2 * p + 2))
    a = x @ x.T
    root = np.sqrt(np.diag(a))
    return a / root[:, None] / root[None, :]


@pytest.mark.parametrize("p", [1, 2, 4, linalg.UNROLLED, linalg.UNROLLED + 1, 12])
def test_solve_agrees_with_numpy_alone_and_in_a_batch(p: int) -> None:
    a = np.stack([definite(p, seed) for seed in range(5)])
    b = np.random.default_rng(9).normal(size=(5, p))
    expected = np.linalg.solve(a, b[:, :, None])[:, :, 0]
    with jax.enable_x64(True):
        alone = [jax.jit(linalg.solve_spd)(a[i], b[i]) for i in range(5)]
        x, ok = jax.vmap(linalg.solve_spd)(jnp.asarray(a), jnp.asarray(b))
        np.testing.assert_allclose(x, expected, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(np.stack([x for x, _ in alone]), expected, rtol=1e-11, atol=1e-12)
        assert bool(jnp.all(ok))
        assert all(bool(flag) for _, flag in alone)


@pytest.mark.parametrize("p", [2, 3, 9])
@pytest.mark.parametrize("what", ["indefinite", "singular", "nan", "inf"])
def test_failure_is_flagged_and_stays_finite(p: int, what: str) -> None:
    a = np.eye(p)
    if what == "indefinite":
        a[0, 1] = a[1, 0] = 1.5
    elif what == "singular":
        a[0, 1] = a[1, 0] = 1.0
    else:
        a[0, 1] = a[1, 0] = {"nan": np.nan, "inf": np.inf}[what]
    with jax.enable_x64(True):
        x, ok = jax.jit(linalg.solve_spd)(a, np.ones(p))
        L, ok_too = jax.jit(linalg.cholesky)(a)
        assert not bool(ok)
        assert not bool(ok_too)
        assert np.all(np.isfinite(x))
        np.testing.assert_array_equal(L, np.eye(p))


def test_cholesky_factor_and_its_derivative() -> None:
    """L L' = A; and for C = [[1, r], [r, 1]], log det C = log(1 - r^2) has derivative -2 r / (1 - r^2)."""
    a = definite(6, 1)

    def log_det(r: jax.Array) -> jax.Array:
        L, ok = linalg.cholesky(jnp.array([[1.0, 0.0], [0.0, 1.0]]) + r * jnp.array([[0.0, 1.0], [1.0, 0.0]]))
        return jnp.where(ok, 2.0 * jnp.sum(jnp.log(jnp.diagonal(L))), 0.0)

    with jax.enable_x64(True):
        L, ok = linalg.cholesky(jnp.asarray(a))
        assert bool(ok)
        np.testing.assert_allclose(L @ L.T, a, atol=1e-14)
        slopes = jax.vmap(jax.grad(log_det))(jnp.array([0.6, 2.0]))  # the second is indefinite: flagged, and no NaN
        np.testing.assert_allclose(slopes, [-1.2 / 0.64, 0.0], rtol=1e-12)


def test_scaled_inverse_is_the_inverse_whatever_the_units() -> None:
    a = definite(5, 3)
    units = 10.0 ** np.array([-9, -3, 0, 4, 9])
    plain = linalg.scaled_inverse(a)
    scaled = linalg.scaled_inverse(a * units[:, None] * units[None, :])
    assert plain.ok
    assert scaled.ok
    np.testing.assert_allclose(plain.inverse, np.linalg.inv(a), rtol=1e-11)
    np.testing.assert_allclose(scaled.inverse * units[:, None] * units[None, :], plain.inverse, rtol=1e-10)
    np.testing.assert_allclose([scaled.smallest, scaled.condition], [plain.smallest, plain.condition], rtol=1e-10)


def test_scaled_eigenvalues_by_hand() -> None:
    """[[4, 6 r], [6 r, 9]] scales to [[1, r], [r, 1]], with eigenvalues 1 - r and 1 + r."""
    r = 0.75
    found = linalg.scaled_inverse([[4.0, 6.0 * r], [6.0 * r, 9.0]])
    np.testing.assert_allclose([found.smallest, found.condition], [1 - r, (1 + r) / (1 - r)], rtol=1e-14)


@pytest.mark.parametrize(
    "a",
    [
        [[1.0, 1.0], [1.0, 1.0]],
        [[1.0, 2.0], [2.0, 1.0]],
        [[1.0, 1.0 - 1e-14], [1.0 - 1e-14, 1.0]],
        [[1.0, 0.0], [0.0, 0.0]],
        [[1.0, 0.0], [0.0, -1.0]],
        [[np.nan, 0.0], [0.0, 1.0]],
        [[np.inf, 0.0], [0.0, 1.0]],
    ],
)
def test_scaled_inverse_refuses(a: list[list[float]]) -> None:
    found = linalg.scaled_inverse(a)
    assert not found.ok
    assert np.all(np.isnan(found.inverse))


def test_scaled_inverse_of_nothing_and_of_no_square() -> None:
    assert linalg.scaled_inverse(np.zeros((0, 0))).ok
    with pytest.raises(ValueError, match="square"):
        linalg.scaled_inverse(np.zeros((2, 3)))


@pytest.mark.parametrize("p", [1, 2, 4, linalg.UNROLLED, linalg.UNROLLED + 1, 12])
def test_solving_at_any_scale_on_the_host_and_traced(p: int) -> None:
    rng = np.random.default_rng(p)
    scale = 10.0 ** rng.uniform(-8, 8, size=p)
    a = definite(p, p) * np.outer(scale, scale)
    b = rng.normal(size=p) * scale
    expected = np.linalg.solve(a / np.outer(scale, scale), b / scale) / scale
    with jax.enable_x64(True):
        traced = jax.jit(linalg.solve_scaled)(a, b)
    for x, product, ok in (traced, linalg.solve_scaled_host(a, b)):
        assert bool(ok)
        np.testing.assert_allclose(np.asarray(x) * scale, expected * scale, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(float(product), b @ expected, rtol=1e-10)


@pytest.mark.parametrize("p", [2, 4, 9])
def test_both_refuse_the_same_matrices_at_any_scale(p: int) -> None:
    scale = 10.0 ** np.random.default_rng(p).uniform(-5, 5, size=p)
    flat = np.ones((p, p))
    cases = {
        "singular": flat,
        "indefinite": 2.0 * flat - np.eye(p),
        "negative": -np.eye(p),
        "zero on the diagonal": np.diag(np.r_[np.ones(p - 1), 0.0]),
        "not finite": np.full((p, p), np.nan),
        "barely singular": flat + 1e-14 * np.eye(p),
        "barely definite": flat + 1e-9 * np.eye(p),
    }
    for name, matrix in cases.items():
        a, b = matrix * np.outer(scale, scale), scale
        with jax.enable_x64(True):
            x, product, ok = linalg.solve_scaled(jnp.asarray(a), jnp.asarray(b))
        y, other, okay = linalg.solve_scaled_host(a, b)
        assert bool(ok) == bool(okay) == (name == "barely definite"), name
        assert np.isfinite(np.concatenate([np.asarray(x), y, [product, other]])).all(), name


@pytest.mark.parametrize("shape", [(3,), (4, 4), (200,)])
def test_finite_by_its_sum(shape: tuple[int, ...]) -> None:
    a = np.random.default_rng(0).normal(size=shape)
    assert linalg.all_finite(a)
    assert linalg.all_finite(np.full(shape, 1.7e308))  # the sum overflows, the entries do not
    for bad in (np.nan, np.inf, -np.inf):
        a.flat[-1] = bad
        assert not linalg.all_finite(a)
    a.flat[:2] = np.inf, -np.inf
    assert not linalg.all_finite(a)
