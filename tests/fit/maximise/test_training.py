"""Training on minibatches through ``fit``: against loops written out by hand, Newton's estimates, and what it refuses."""

from __future__ import annotations

import functools
import os
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax import optimize
from tests.test_compilations import compilations
from tests.zoo import FAMILY, REGRESSION, truth

P, N = 520, 200


@mle.model(w=mle.Free(start={"a": np.zeros(P - 1), "b": np.zeros(1)}))
def wide(params: Any, data: Any) -> Any:
    """More coefficients than rows: what early stopping is for; not polished, because p > 500."""
    mean = data["x"] @ params["w"]["a"] + params["w"]["b"][0]
    return norm.logpdf(data["y"], mean, 1.0)


@functools.cache
def wide_data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((N, P - 1)) / 10
    return {"x": x, "y": x[:, :20] @ np.ones(20) + 1.0 + rng.standard_normal(N)}


def quietly(model: Any, data: Any, **options: Any) -> mle.Results:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        return model.fit(data, progress=False, **options)


def by_hand(transformation: Any, batch_size: int, epochs: int, seed: int) -> np.ndarray:
    """The same training as a plain loop: gradients of the least squares of each batch in closed form."""
    data = wide_data()
    x, y = np.c_[data["x"], np.ones(N)], data["y"]
    with jax.enable_x64(True):
        beta = jnp.zeros(P)
        state = transformation.init(beta)
        rng = np.random.default_rng(seed)
        for _ in range(epochs):
            order = rng.permutation(N)
            for begin in range(0, N, batch_size):
                rows = order[begin : begin + batch_size]
                grad = -x[rows].T @ (y[rows] - x[rows] @ np.asarray(beta)) / len(rows)
                move, state = transformation.update(jnp.asarray(grad), state, beta)
                beta = optax.apply_updates(beta, move)
        return np.asarray(beta)


def coefficients(res: mle.Results) -> np.ndarray:
    return np.concatenate([res.params_tree["w"]["a"], res.params_tree["w"]["b"]])


def test_epochs_are_those_of_a_plain_loop() -> None:
    """Three epochs of 64 rows each, the last batch short (200 = 3 * 64 + 8), Adam with a schedule."""
    schedule = optax.exponential_decay(0.05, 4, 0.8)
    res = quietly(wide, wide_data(), method=mle.Adam(schedule, batch_size=64, epochs=3, seed=11))
    np.testing.assert_allclose(coefficients(res), by_hand(optax.adam(schedule), 64, 3, 11), rtol=1e-9, atol=1e-12)
    assert res.n_steps == 12
    assert res.history is not None
    assert list(res.history.columns) == ["train", "kept"]
    assert "adam, 12 steps on minibatches of 64" in str(res.summary())


def test_any_transformation_of_optax() -> None:
    sgd = optax.sgd(0.1, momentum=0.9)
    res = quietly(wide, wide_data(), method=mle.FirstOrder(sgd, batch_size=50, epochs=2, seed=3))
    np.testing.assert_allclose(coefficients(res), by_hand(sgd, 50, 2, 3), rtol=1e-9, atol=1e-12)


def test_validation_rows_stop_it() -> None:
    method = mle.Adam(0.02, batch_size=32, epochs=200, patience=5, seed=1)
    with pytest.warns(mle.ConvergenceWarning, match="where the validation log-likelihood was highest"):
        res = wide.fit(wide_data(), method=method, validation=0.25, progress=False)
    history = res.history
    assert history is not None
    best = int(history["validation"].idxmax())
    assert history.index[history["kept"]].tolist() == [best]
    assert len(history) == best + 5 < 200, "or it was not stopped"
    assert history["train"].iloc[-1] > history["train"].loc[best], "or there was no overfitting to stop"
    assert (res.verdict.code, res.converged) == ("stopped_early", False)
    assert f"after epoch {best}" in res.verdict.statement
    assert res.nobs == res.n_units == 150
    text = " ".join(str(res.summary()).split())
    assert "Validation data: 50 of 200 rows, at random (seed 1)." in text
    assert "NO (no Hessian was formed)" in text
    # the parameters are those of that epoch, and the validation value is the log-likelihood of the rows left out
    again = quietly(
        wide, wide_data(), method=mle.Adam(0.02, batch_size=32, epochs=best, patience=best, seed=1), validation=0.25
    )
    np.testing.assert_array_equal(coefficients(again), coefficients(res))
    order = np.random.default_rng(1).permutation(N)
    data, out, kept = wide_data(), order[:50], order[50:]
    residuals = data["y"] - data["x"] @ coefficients(res)[:-1] - coefficients(res)[-1]
    np.testing.assert_allclose(history["validation"].loc[best], norm.logpdf(residuals[out]).mean(), rtol=1e-6)
    np.testing.assert_allclose(res.llf, float(norm.logpdf(residuals[kept]).sum()), rtol=1e-6)


def test_validation_data_of_their_own() -> None:
    data = wide_data()
    parts = [{k: v[rows] for k, v in data.items()} for rows in (slice(0, 150), slice(150, None))]
    res = quietly(wide, parts[0], method=mle.Adam(0.02, batch_size=32, epochs=4), validation=parts[1])
    assert res.nobs == 150
    assert res.history is not None
    residuals = parts[1]["y"] - parts[1]["x"] @ coefficients(res)[:-1] - coefficients(res)[-1]
    kept = res.history.loc[res.history["kept"], "validation"].iloc[0]
    np.testing.assert_allclose(kept, norm.logpdf(residuals).mean(), rtol=1e-6)


def test_validation_data_that_are_impossible_are_said_to_be() -> None:
    @mle.model(w=mle.Free(start={"a": np.zeros(P - 1), "b": np.zeros(1)}))
    def above(params: Any, data: Any) -> Any:
        mean = data["x"] @ params["w"]["a"] + params["w"]["b"][0]
        return jnp.where(data["y"] > -90.0, norm.logpdf(data["y"], mean, 1.0), -jnp.inf)

    data = wide_data()
    outside = {"x": data["x"][:5], "y": np.full(5, -99.0)}
    res = quietly(above, data, method=mle.Adam(0.02, batch_size=50, epochs=3), validation=outside)
    assert "the validation log-likelihood was never finite" in res.verdict.statement
    assert np.all(coefficients(res) == 0.0)
    kept = mle.plot.convergence(res).get_lines()[-1]
    assert (kept.get_label(), list(kept.get_xdata())) == ("kept: the start", [0, 0])


def test_few_parameters_are_taken_to_the_maximum() -> None:
    data = REGRESSION.make(13)
    res = REGRESSION.plain.fit(data, start=REGRESSION.start, method=mle.Adam(0.05, batch_size=16, epochs=60))
    assert res.verdict.code == "verified"
    np.testing.assert_allclose(res.params, truth(REGRESSION, data).values, rtol=1e-7)
    assert "polished by Newton" in str(res.summary())
    early = quietly(
        REGRESSION.plain, data, start=REGRESSION.start, method=mle.Adam(batch_size=16, epochs=2), validation=0.2
    )
    assert early.verdict.code == "stopped_early", "what a validation sample stops is not taken to the maximum after all"


def test_weights_formulas_and_penalties_go_along() -> None:
    """Frequency weights, a regressed model and a penalty: the end is that of Newton's method on the same problem."""
    rng = np.random.default_rng(2)
    n = 60
    table = {"x": rng.standard_normal(n), "w": rng.integers(0, 4, n), "y": np.zeros(n)}
    table["y"] = 1.0 + 2.0 * table["x"] + rng.standard_normal(n)
    reg = LINE.regress(mu="x")
    options: dict[str, Any] = {
        "weights": "w",
        "weight_kind": "frequency",
        "penalty": mle.l2(3.0, "mu[x]"),
    }
    method = mle.Adam(0.05, batch_size=16, epochs=60)
    by_batches, newton = reg.fit(table, method=method, **options), reg.fit(table, **options)
    np.testing.assert_allclose(by_batches.params, newton.params, rtol=1e-7)
    np.testing.assert_allclose(by_batches.bse, newton.bse, rtol=1e-6)
    assert by_batches.nobs == newton.nobs == table["w"].sum()
    early = quietly(reg, table, method=mle.Adam(0.05, batch_size=16, epochs=2), validation=0.25, **options)
    kept = np.sort(np.random.default_rng(0).permutation(n)[15:])
    assert early.nobs == table["w"][kept].sum()
    alone = reg.fit({k: v[kept] for k, v in table.items()}, **options)
    assert mle.compare(early, alone).remark == "", "the fingerprint is that of the rows trained on"
    errors = newton.subset_errors("mu", others="estimated")
    np.testing.assert_allclose(errors.bse, newton.with_cov("bayes").bse[["mu[Intercept]", "mu[x]"]], rtol=1e-6)
    assert "cov_type='bayes'" in str(errors)
    sampling = {**options, "weight_kind": "sampling", "penalty": None}
    with pytest.raises(ValueError, match="pseudolikelihood"):
        reg.fit(table, **sampling).subset_errors("mu")


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def LINE(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


def test_units_are_what_a_minibatch_holds() -> None:
    data = FAMILY.make(13)
    res = quietly(FAMILY.plain, data, start=FAMILY.start, method=mle.Adam(0.05, batch_size=5, epochs=40))
    assert res.verdict.code == "verified"
    np.testing.assert_allclose(res.params, truth(FAMILY, data).values, rtol=1e-6)
    split = quietly(
        FAMILY.plain, data, start=FAMILY.start, method=mle.Adam(0.05, batch_size=5, epochs=3), validation=0.25
    )
    assert (split.n_units, split.nobs) == (18, 72)


def test_one_compiled_epoch() -> None:
    """Another seed, another number of epochs and other data of about that length run the same program."""
    method = {"learning_rate": 0.03, "batch_size": 40}
    quietly(wide, wide_data(), method=mle.Adam(**method, epochs=1))
    fewer = {k: v[:198] for k, v in wide_data().items()}
    with compilations() as compiled:
        quietly(wide, wide_data(), method=mle.Adam(**method, epochs=2, seed=5))
        quietly(wide, fewer, method=mle.Adam(**method, epochs=1))
    assert compiled == [0]


def test_a_row_that_is_not_finite_is_named_and_its_batches_left_out() -> None:
    data = {**wide_data(), "y": wide_data()["y"].copy()}

    @mle.model(w=mle.Free(start={"a": np.zeros(P - 1), "b": np.zeros(1)}))
    def logs(params: Any, data: Any) -> Any:
        mean = data["x"] @ params["w"]["a"] + params["w"]["b"][0]
        return norm.logpdf(data["y"], mean, 1.0) + jnp.log(data["z"])

    res = quietly(logs, {**data, "z": np.r_[-1.0, np.ones(N - 1)]}, method=mle.Adam(batch_size=50, epochs=2))
    assert res.verdict.code == "not_computable"
    assert "(row 0; first: nan" in res.verdict.statement
    assert np.abs(coefficients(res)).max() > 0, "the other batches moved it"


def test_an_interrupt_keeps_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    real = optimize.shuffled
    calls = []

    def third_time(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(optimize, "shuffled", third_time)
    res = quietly(wide, wide_data(), method=mle.Adam(0.03, batch_size=40, epochs=50))
    assert "interrupted after 2 epochs" in res.verdict.statement
    assert res.history is not None
    assert len(res.history) == 2


def test_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        wide.fit(wide_data(), method=mle.Adam(0.03, batch_size=40, epochs=2), progress=True, validation=0.2)
    shown = capsys.readouterr().err
    assert "epoch" in shown
    assert "validation" in shown


@pytest.mark.skipif("MLEJAX_CHECK_SHAPES" in os.environ, reason="hands in numbers of wrong types")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 3}, "give batch_size"),
        ({"seed": 3}, "give batch_size"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 8.0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"batch_size": 8, "epochs": 0}, "epochs=0"),
        ({"batch_size": 8, "tol": 1e-3}, "tol"),
        ({"batch_size": 8, "max_steps": 10}, "epochs= sets"),
        ({"batch_size": 8, "patience": 0}, "patience"),
        ({"batch_size": 8, "seed": 1.5}, "seed"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mle.Adam(**options)
    with pytest.raises(ValueError, match=said):
        mle.FirstOrder(optax.sgd(0.1), **options)


def test_what_is_refused() -> None:
    data = REGRESSION.make(13)
    fit = functools.partial(REGRESSION.plain.fit, data, start=REGRESSION.start)
    with pytest.raises(ValueError, match="batch_size="):
        fit(validation=0.2)
    with pytest.raises(ValueError, match="give validation="):
        fit(method=mle.Adam(batch_size=8, patience=3))
    with pytest.raises(ValueError, match="fraction"):
        fit(method=mle.Adam(batch_size=8), validation=1.5)
    with pytest.raises(ValueError, match=r"of \d+ rows gives \d+ for validation, so that one part is empty"):
        fit(method=mle.Adam(batch_size=8), validation=0.001)
    with pytest.raises(ValueError, match=r"only model.fit"):
        mle.solve(REGRESSION.plain, REGRESSION.plain.prepare(data), REGRESSION.start, method=mle.Adam(batch_size=8))
    with pytest.raises(ValueError, match=r"receives the whole data at once, .* leave out batch_size"):
        WHOLE.fit({"y": np.arange(9.0)}, method=mle.Adam(batch_size=3))
    table = {"x": np.ones((9, 2)), "y": np.arange(9.0)}
    with pytest.raises(ValueError, match="same columns"):
        COLUMNS.fit(table, method=mle.Adam(batch_size=3), validation={**table, "x": np.ones((9, 3))})


@mle.model(beta=mle.Real(columns="x"))
def COLUMNS(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], data["x"] @ params["beta"])


@mle.model(rowwise=False, mu=mle.Real())
def WHOLE(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"] - data["y"].mean(), params["mu"])
