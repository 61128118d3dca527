"""Declaring models and parameters: every form, every misuse, addresses, and what one contribution is."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from tests.zoo import BIVARIATE, FAMILY, GAUSSIAN, MULTINOMIAL, NET, ORDERED, REGRESSION, truth

RNG = np.random.default_rng(17)
Y = RNG.normal(1.0, 2.0, 40)
DATA = {"y": Y}
UNIT = {"mu": 0.0, "sigma": 1.0}


def gaussian(params: Any, data: Any) -> Any:
    """Normal."""
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


def squares(params: Any, data: Any) -> Any:
    return -((data["y"] - params["mu"]) ** 2)


# ---- forms


def test_forms_are_one_model() -> None:
    declared = {"mu": mle.Real(), "sigma": mle.Positive()}
    forms = [
        mle.model(**declared)(gaussian),
        mle.model(params=declared)(gaussian),
        mle.model(params={"mu": mle.Real()}, sigma=mle.Positive())(gaussian),
        mle.model(gaussian, **declared),
    ]
    for form in forms:
        assert isinstance(form, mle.Model)
        assert repr(form) == "<mlejax model gaussian(mu=Real(), sigma=Positive())>"
        assert form.__name__ == "gaussian"
        assert form.__doc__ == "Normal."
        assert form.__wrapped__ is gaussian
        assert form.prepare(DATA).space.labels == ("mu", "sigma")


def test_the_bare_form_takes_its_structure_from_the_start() -> None:
    @mle.model
    def bare(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"], jnp.exp(params["log"]["sigma"]))

    assert "structure from start=" in repr(bare)
    res = bare.fit(DATA, start={"mu": 0.0, "log": {"sigma": 0.0}})
    assert set(res.params.index) == {"mu", "log.sigma"}
    assert res.params["mu"] == pytest.approx(Y.mean(), rel=1e-9)
    assert res.params["log.sigma"] == pytest.approx(np.log(Y.std()), rel=1e-8)
    assert res.bse["log.sigma"] == pytest.approx(1 / np.sqrt(80), rel=1e-8)
    with pytest.raises(ValueError, match="start= must give their structure"):
        bare.fit(DATA)


def test_a_model_is_still_its_function() -> None:
    model = mle.model(mu=mle.Real(), sigma=mle.Positive())(gaussian)
    params = {"mu": 0.3, "sigma": 1.2}
    plain = gaussian(params, {"y": jnp.asarray(Y)})
    rows = {"y": jnp.asarray(Y)}
    np.testing.assert_array_equal(model(params, rows), plain)
    np.testing.assert_allclose(jax.jit(model)(params, rows), plain, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(model, in_axes=(None, 0))(params, rows), plain, rtol=1e-6)
    slope = jax.grad(lambda p: jnp.sum(model(p, rows)))(params)
    assert float(slope["mu"]) == pytest.approx(np.sum(Y - 0.3) / 1.2**2, rel=1e-4)


def test_reprs_of_modes() -> None:
    assert repr(FAMILY.plain).endswith("unit='family')>")
    assert repr(mle.model(mu=mle.Real(), rowwise=False)(squares)) == "<mlejax model squares(mu=Real(), rowwise=False)>"


@pytest.mark.parametrize(
    ("declaration", "text"),
    [
        (mle.Real(), "Real()"),
        (mle.Real(3), "Real(shape=(3,))"),
        (mle.Real(columns="X"), "Real(columns='X')"),
        (mle.Positive((2, 3)), "Positive(shape=(2, 3))"),
        (mle.Interval(0, 1), "Interval(0, 1)"),
        (mle.Interval(-1, 1, closed="both"), "Interval(-1, 1, closed='both')"),
        (mle.Simplex(4), "Simplex(shape=(4,))"),
        (mle.Covariance(2), "Covariance(shape=(2, 2))"),
        (mle.Correlation((3, 3)), "Correlation(shape=(3, 3))"),
        (mle.Real(start=2.0), "Real(start=...)"),
        (mle.Free({"w": np.zeros((2, 2)), "b": 0.0}), "Free(2 arrays, 5 numbers)"),
    ],
)
def test_reprs_of_declarations(declaration: Any, text: str) -> None:
    assert repr(declaration) == text


# ---- misuse at once


@pytest.mark.parametrize("name", ["rowwise", "unit"])
def test_a_parameter_named_like_an_option(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}= is an option.*params=\{{'{name}': Real\(\)"):
        mle.model(**{name: mle.Real()})

    def loglik(params: Any, data: Any) -> Any:
        return -((data["y"] - params[name]) ** 2)

    res = mle.model(params={name: mle.Real()})(loglik).fit(DATA, start={name: 0.0})
    assert res.params[name] == pytest.approx(Y.mean(), rel=1e-9)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: mle.model(params=mle.Real()), TypeError, "params= expected a dict"),
        (lambda: mle.model(params=[mle.Real()]), TypeError, "expected a dict of name -> declaration"),
        (lambda: mle.model(mu=mle.Real), TypeError, r"mu= expected a declaration such as mle.Real\(\)"),
        (lambda: mle.model(mu=0.0), TypeError, "mu= expected a declaration"),
        (lambda: mle.model(params={"mu": mle.Real()}, mu=mle.Real()), TypeError, r"\['mu'\] are declared twice"),
        (lambda: mle.model(params={"a[0]": mle.Real()}), TypeError, "without brackets"),
        (lambda: mle.model(params={3: mle.Real()}), TypeError, "expected a parameter name"),
        (lambda: mle.model(mu=mle.Real(), rowwise="yes"), TypeError, "rowwise= expected True or False"),
        (lambda: mle.model(mu=mle.Real(), unit="id", rowwise=False), ValueError, "not both"),
        (lambda: mle.model(3.0), TypeError, "decorates a function"),
        (lambda: mle.model({"mu": mle.Real()}), TypeError, "declarations are keywords"),
        (lambda: mle.model(mu=mle.Real())(lambda params: 0.0), TypeError, "function of two arguments"),
        (lambda: mle.model(mu=mle.Real())(lambda p, d, extra: 0.0), TypeError, "function of two arguments"),
        (lambda: mle.model(mu=mle.Real())(GAUSSIAN.plain), TypeError, "got a model already"),
        (lambda: mle.Interval(1, 0), ValueError, "lo < hi"),
        (lambda: mle.Interval(1, None), TypeError, "two numbers lo < hi.*half-line"),
        (lambda: mle.Interval(0, np.inf), ValueError, "half-line use Positive"),
        (lambda: mle.Interval(0, 1, closed="yes"), ValueError, "closed must be"),
        (lambda: mle.Simplex(), ValueError, "Simplex needs shape="),
        (lambda: mle.Simplex(1), ValueError, "at least 2 entries"),
        (lambda: mle.Ordered(), ValueError, "Ordered needs shape="),
        (lambda: mle.Covariance(), ValueError, "Covariance needs shape="),
        (lambda: mle.Covariance((2, 3)), ValueError, r"expected shape=d or \(d, d\)"),
        (lambda: mle.Correlation(1), ValueError, "at least 2 entries"),
        (lambda: mle.Real(0), ValueError, "shape must be positive"),
        (lambda: mle.Real(3, columns="X"), ValueError, "not both"),
        (lambda: mle.Real(3, labels=["a", "b"]), ValueError, "expected 3 labels"),
        (lambda: mle.Real(2, labels=["a", "a"]), ValueError, "labels must differ"),
        (lambda: mle.Positive(start=-1.0), ValueError, "Positive"),
        (lambda: mle.Simplex(3, start=[0.5, 0.6, 0.1]), ValueError, "Simplex"),
        (lambda: mle.Ordered(3, start=[0.0, 2.0, 1.0]), ValueError, "Ordered"),
        (lambda: mle.Covariance(2, start=[[1.0, 2.0], [2.0, 1.0]]), ValueError, "Covariance"),
        (lambda: mle.Real(2, start=[1.0, 2.0, 3.0]), ValueError, r"expected shape \(2,\)"),
        (lambda: mle.Interval(0, 1, start=1.0), ValueError, "Interval"),
        (lambda: mle.Free({}), ValueError, "at least one array"),
        (lambda: mle.Free({"w": "text"}), TypeError, "real numbers"),
        (lambda: mle.Free(np.array([1j])), TypeError, "real numbers"),
    ],
)
def test_misuse_is_refused_at_once(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


# ---- what a function may return


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda p, d: jnp.sum(squares(p, d)), "one scalar, but a row-wise model.*rowwise=False"),
        (lambda p, d: squares(p, d)[:, None], r"\(40, 1\).*take \[:, 0\]"),
        (lambda p, d: jnp.stack([squares(p, d)] * 3, axis=1), r"\(40, 3\).*sum over the other axes"),
        (lambda p, d: {"l": squares(p, d), "m": squares(p, d)}, "one array.*dict"),
        (lambda p, d: squares(p, d) * (1 + 0j), "complex"),
        (lambda p, d: squares(p, d)[:-1], r"\(39,\).*one value per row, here \(40,\)"),
        (lambda p, d: None, "NoneType"),
        (lambda p, d: squares(p, d) if p["mu"] > 0 else 0 * d["y"], "concrete value.*jnp.where instead of if"),
        (lambda p, d: squares(p, d) * float(p["mu"]), "concrete value"),
    ],
)
def test_wrong_returns(function: Any, message: str) -> None:
    with pytest.raises(mle.LikelihoodError, match=f"(?s){message}"):
        mle.model(mu=mle.Real())(function).fit(DATA)


def test_a_missing_column_and_a_missing_parameter() -> None:
    with pytest.raises(mle.MissingColumnError, match=r"no column 'Y'.*'y'"):
        mle.model(mu=mle.Real())(lambda p, d: d["Y"] - p["mu"]).fit(DATA)
    with pytest.raises(
        mle.LikelihoodError, match=r"looks up 'sigma', which is not declared; the parameters are mu\.  Declare it"
    ):
        mle.model(mu=mle.Real())(gaussian).fit(DATA)
    with pytest.raises(mle.LikelihoodError, match=r"'sd', which is not declared \(did you mean sdev"):
        mle.model(mu=mle.Real(), sdev=mle.Positive())(lambda p, d: -((d["y"] - p["mu"]) ** 2) / p["sd"]).fit(DATA)


def test_swapped_arguments_are_named() -> None:
    """Right: f(params, data).  Whichever name is looked up first, the message says what it is."""
    for function in (lambda d, p: d["y"] - p["mu"], lambda d, p: p["mu"] - d["y"]):
        with pytest.raises(mle.LikelihoodError, match=r"expected a function of \(params, data\), in this order"):
            mle.model(mu=mle.Real())(function).fit(DATA)


def test_jit_above_the_function_is_named() -> None:
    function = jax.jit(lambda p, d: -((d["y"] - p["mu"]) ** 2))
    assert mle.model(mu=mle.Real())(function).fit(DATA).verdict.converged
    with pytest.raises(mle.DataTypeError, match=r"leave out jax.jit of the function.*column 's'"):
        mle.model(mu=mle.Real())(function).fit({"y": [1.0, 2.0, 4.0], "s": ["a", "b", "c"]})


def test_numbers_that_no_float_holds_are_refused() -> None:
    model = mle.model(mu=mle.Real())(squares)
    with pytest.raises(
        ValueError, match=r"start of mu: expected numbers in the range of float64, got an integer beyond 1\.8e308"
    ):
        model.fit(DATA, start={"mu": 10**400})
    with pytest.raises(ValueError, match="expected two finite ends, got an integer beyond"):
        mle.Interval(0, 10**400)
    with pytest.raises(mle.DataError, match=r"expected 'raise' or 'drop'"):
        model.fit(DATA, missing=np.ones(3))


# ---- what the function takes from outside


@pytest.mark.parametrize("n", [200, 208, 256, 512])
def test_a_column_closed_over_is_named(n: int) -> None:
    """The commonest habit of who comes from scipy: with 208 and 256 rows this was said to be centring."""
    x = np.random.default_rng(1).normal(size=n)

    @mle.model(a=mle.Real(), b=mle.Real(), s=mle.Positive())
    def line(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["a"] + params["b"] * x, params["s"])

    with pytest.raises(
        mle.LikelihoodError, match=rf"line works with the {n} rows .* It uses x \(shape \({n},\)\) from outside"
    ):
        line.fit({"y": x + 1.0})


def test_constants_that_happen_to_have_the_length_of_the_data_are_fine() -> None:
    nodes = np.linspace(0.0, 1.0, DATA["y"].size)
    model = mle.model(mu=mle.Real())(lambda p, d: -((d["y"] - p["mu"]) ** 2) * jnp.mean(nodes))
    assert model.fit(DATA).verdict.converged


def test_shapes_that_depend_on_the_number_of_rows_are_refused() -> None:
    def half(params: Any, data: Any) -> Any:
        terms = norm.logpdf(data["y"], params["mu"])
        return terms if terms.shape[0] == DATA["y"].size else terms[: terms.shape[0] // 2]

    with pytest.raises(mle.LikelihoodError, match=r"must work for any number of them.*Do not use the number of rows"):
        mle.model(mu=mle.Real())(half).fit(DATA)


def test_float32_constants_are_named() -> None:
    """Right: the same constants from NumPy, in float64."""
    narrow, wide = jnp.arange(1.0, 6.0), np.arange(1.0, 6.0)
    assert narrow.dtype == np.float32

    def model(nodes: Any) -> Any:
        @mle.model(mu=mle.Real())
        def f(params: Any, data: Any) -> Any:
            return -((data["y"] - params["mu"]) ** 2) + jnp.sum(jax.scipy.special.gammaln(nodes))

        return f

    with pytest.warns(RuntimeWarning, match=r"f uses float32 constants .*: nodes \(shape \(5,\)\)"):
        model(narrow).fit(DATA)
    model(wide).fit(DATA)
    # inside of a function that is compiled by itself, and a number
    nested = jax.jit(lambda x: x + jnp.sum(narrow))
    number = np.float32(0.1)
    with pytest.warns(RuntimeWarning, match=r"float32 constants .*: of shape \(5,\)"):
        mle.model(mu=mle.Real())(lambda p, d: -((d["y"] - nested(p["mu"])) ** 2)).fit(DATA)
    with pytest.warns(RuntimeWarning, match=r"float32 constants .*: number \(shape \(\)\)"):
        mle.model(mu=mle.Real())(lambda p, d: -((d["y"] - p["mu"] - number) ** 2)).fit(DATA)


def test_random_numbers_inside_are_named() -> None:
    """Those of JAX may be meant; those of NumPy are drawn once, while the function is traced."""

    def model(draw: Any) -> mle.Model:
        return mle.model(mu=mle.Real())(lambda p, d: -((d["y"] - p["mu"]) ** 2) + 0.0 * draw(d["y"].shape[0]))

    with pytest.warns(RuntimeWarning, match="draws random numbers"):
        model(lambda n: jax.random.normal(jax.random.key(0), (n,))).fit(DATA)
    with pytest.warns(RuntimeWarning, match="draws random numbers"):
        mle.model(mu=mle.Real())(
            lambda p, d: -((d["y"] - p["mu"]) ** 2) + 0.0 * np.random.default_rng(0).normal(size=3).sum()
        ).fit(DATA)
    with pytest.raises(mle.LikelihoodError, match="draws random numbers"):
        model(lambda n: np.random.normal()).fit(DATA)  # noqa: NPY002


# ---- rows that use other rows


@pytest.mark.parametrize(
    "function",
    [
        lambda p, d: -((d["y"] - p["a"] - (d["x"] - d["x"].mean()) * p["b"]) ** 2),
        lambda p, d: -((d["y"] - p["a"] - d["x"] * p["b"]) ** 2) / d["y"].shape[0],
        lambda p, d: -((d["y"] - p["a"] - jnp.cumsum(d["x"]) * p["b"]) ** 2),
        lambda p, d: -((d["y"] - p["a"] - p["b"] * jnp.roll(d["y"], 1)) ** 2),
    ],
    ids=["centred", "divided by n", "cumulated", "lagged"],
)
def test_dependent_rows_are_refused(function: Any) -> None:
    """With b = 0 at the start, where the values alone would show nothing."""
    data = {"y": Y, "x": RNG.normal(3.0, 1.0, 40)}
    model = mle.model(a=mle.Real(), b=mle.Real())(function)
    with pytest.raises(
        mle.LikelihoodError, match=r"(?s)row-wise, but its entries use other rows.*mle\.Shared.*rowwise=False"
    ):
        model.fit(data, start={"a": 0.0, "b": 0.0})


def test_the_remedies_for_dependent_rows_work() -> None:
    x = RNG.normal(3.0, 1.0, 40)

    @mle.model(a=mle.Real(), b=mle.Real())
    def centred(p: Any, d: Any) -> Any:
        return -((d["y"] - p["a"] - (d["x"] - d["mean"]) * p["b"]) ** 2)

    @mle.model(a=mle.Real(), b=mle.Real(), rowwise=False)
    def whole(p: Any, d: Any) -> Any:
        return -((d["y"] - p["a"] - (d["x"] - d["x"].mean()) * p["b"]) ** 2)

    zero = {"a": 0.0, "b": 0.0}
    one = centred.fit({"y": Y, "x": x, "mean": mle.Shared(x.mean())}, start=zero)
    two = whole.fit({"y": Y, "x": x}, start=zero)
    want = np.linalg.lstsq(np.column_stack([np.ones(40), x - x.mean()]), Y, rcond=None)[0]
    np.testing.assert_allclose(one.params, want, rtol=1e-9)
    np.testing.assert_allclose(two.params, want, rtol=1e-9)
    np.testing.assert_allclose(one.with_cov("HC0").bse, two.with_cov("HC0").bse, rtol=1e-9)


# ---- units and whole models


def ragged() -> dict[str, Any]:
    """Families of one to six, their rows not together."""
    family = np.repeat(np.arange(12), RNG.integers(1, 7, 12))
    family = RNG.permutation(family)
    effect = RNG.normal(0.0, 1.0, 12)
    area = np.array(list("abcdabcdabcd"))[family]
    return {"y": 2.0 + effect[family] + RNG.normal(size=family.size), "family": family, "area": area}


def test_units_equal_the_same_likelihood_written_for_groups() -> None:
    data = ragged()
    order = [int(i) for i in dict.fromkeys(data["family"].tolist())]
    grouped = {
        "y": data["y"],
        "code": np.array([order.index(f) for f in data["family"].tolist()]),
        "count": mle.Static(12),
    }

    def by_group(p: Any, d: Any) -> Any:
        add = lambda v: jax.ops.segment_sum(v, d["code"], num_segments=d["count"])
        m = add(jnp.ones_like(d["y"]))
        mean = add(d["y"]) / m
        within = add((d["y"] - mean[d["code"]]) ** 2)
        whole = p["sigma2"] + m * p["tau2"]
        return -0.5 * (
            m * jnp.log(2 * jnp.pi) + (m - 1) * jnp.log(p["sigma2"]) + jnp.log(whole)
            + within / p["sigma2"] + m * (mean - p["mu"]) ** 2 / whole
        )  # fmt: skip

    units = FAMILY.plain.fit(data, start=FAMILY.start)
    whole = mle.model(params=FAMILY.declared, rowwise=False)(by_group).fit(grouped, start=FAMILY.start)
    assert units.converged
    assert whole.verdict.code == units.verdict.code
    np.testing.assert_allclose(units.params, whole.params, rtol=1e-8)
    assert units.llf == pytest.approx(whole.llf, rel=1e-12)
    for kind in ("nonrobust", "opg", "HC0", "HC1"):
        np.testing.assert_allclose(units.with_cov(kind).bse, whole.with_cov(kind).bse, rtol=1e-7)
    assert (units.nobs, units.n_units) == (len(data["y"]), 12)
    assert (whole.nobs, whole.n_units) == (12, 12)
    first = [data["family"].tolist().index(f) for f in order]
    areas = data["area"][first]
    a = units.with_cov("cluster", {"groups": "area"})
    np.testing.assert_allclose(a.bse, whole.with_cov("cluster", {"groups": areas}).bse, rtol=1e-7)
    np.testing.assert_allclose(units.score_obs, whole.score_obs, rtol=1e-6, atol=1e-8)
    assert "Units" in str(units.summary())


def test_clusters_have_to_nest_units() -> None:
    data = ragged()
    res = FAMILY.plain.fit(data, start=FAMILY.start)
    with pytest.raises(ValueError, match="constant within"):
        res.with_cov("cluster", {"groups": np.arange(len(data["y"])) % 2})


def test_a_unit_model_has_to_return_one_number() -> None:
    model = mle.model(params=FAMILY.declared, unit="family")(lambda p, d: -((d["y"] - p["mu"]) ** 2) * d["mask"])
    with pytest.raises(mle.LikelihoodError, match=r"one scalar, got shape.*mask"):
        model.fit(ragged())
    with pytest.raises(mle.MissingColumnError, match="family"):
        FAMILY.plain.fit({"y": Y})


def test_whole_models_are_never_padded() -> None:
    lengths: set[int] = set()

    @mle.model(phi=mle.Interval(-1, 1), sigma=mle.Positive(), rowwise=False)
    def autoregression(p: Any, d: Any) -> Any:
        lengths.add(d["y"].shape[0])
        return norm.logpdf(d["y"][1:], p["phi"] * d["y"][:-1], p["sigma"])

    y = np.zeros(42)
    for t in range(1, 42):
        y[t] = 0.5 * y[t - 1] + RNG.normal()
    res = autoregression.fit({"y": y}, start={"phi": 0.0, "sigma": 1.0})
    phi = y[1:] @ y[:-1] / (y[:-1] @ y[:-1])
    e = y[1:] - phi * y[:-1]
    assert res.params["phi"] == pytest.approx(phi, rel=1e-9)
    assert res.params["sigma"] == pytest.approx(np.sqrt(np.mean(e**2)), rel=1e-9)
    assert (res.nobs, res.n_units) == (41, 41)
    assert lengths == {42}
    meat = np.sum((y[:-1] * e) ** 2)
    assert res.with_cov("HC0").bse["phi"] == pytest.approx(np.sqrt(meat) / (y[:-1] @ y[:-1]), rel=1e-6)
    with pytest.raises(ValueError, match=r"missing='drop' is not supported"):
        autoregression.fit({"y": y}, missing="drop")


def test_a_whole_model_may_return_one_number() -> None:
    model = mle.model(mu=mle.Real(), sigma=mle.Positive(), rowwise=False)(lambda p, d: jnp.sum(gaussian(p, d)))
    res = model.fit(DATA, start=UNIT)
    assert res.params["mu"] == pytest.approx(Y.mean(), rel=1e-9)
    assert res.bse["mu"] == pytest.approx(Y.std() / np.sqrt(40), rel=1e-8)
    for kind in ("opg", "HC0", "cluster"):
        with pytest.raises(ValueError, match=r"one scalar|at least two clusters|expected one label"):
            res.with_cov(kind, {"groups": np.arange(40)} if kind == "cluster" else None)


# ---- addresses


SPACES = {
    member.name: member.plain.prepare(member.make(0)).space
    for member in (REGRESSION, NET, BIVARIATE, MULTINOMIAL, ORDERED)
}


@pytest.mark.parametrize(
    ("name", "address", "labels"),
    [
        ("regression", "beta", ["beta[0]", "beta[1]", "beta[2]"]),
        ("regression", " beta[ 2 ] ", ["beta[2]"]),
        ("regression", "beta[-1]", ["beta[2]"]),
        ("regression", "sigma", ["sigma"]),
        ("net", "net", ["net.bias", "net.weights[0]", "net.weights[1]"]),
        ("net", "net.weights", ["net.weights[0]", "net.weights[1]"]),
        ("bivariate", "Sigma[1,0]", ["Sigma[1,0]"]),
        ("bivariate", "Sigma[0, 1]", ["Sigma[1,0]"]),
        ("multinomial", "pi[3]", ["pi[3]"]),
        ("multinomial", "pi", ["pi[0]", "pi[1]", "pi[2]", "pi[3]"]),
        ("ordered", "cut[0]", ["cut[0]"]),
    ],
)
def test_addresses(name: str, address: str, labels: list[str]) -> None:
    space = SPACES[name]
    assert [space.labels[i] for i in space.resolve(address)] == labels


@pytest.mark.parametrize(
    "address", ["betta", "beta[3]", "beta[-4]", "beta[0,1]", "sigma[0]", "beta[", "", "beta[one]", "net"]
)
def test_unknown_addresses_list_near_matches(address: str) -> None:
    with pytest.raises(mle.AddressError, match="no parameter"):
        SPACES["regression"].resolve(address)
    with pytest.raises(mle.AddressError, match=r"did you mean .*beta"):
        SPACES["regression"].resolve("betta[1]")


def test_labels_are_addresses() -> None:
    columns = ["age", "height"]

    @mle.model(beta=mle.Real(columns=columns), S=mle.Covariance(columns=columns), g=mle.Real(2, labels=["a b", "c,d"]))
    def labelled(p: Any, d: Any) -> Any:
        return d["age"] * p["beta"][0] + d["height"] * p["S"][0, 0] + p["g"][1]

    space = labelled.prepare({"age": Y, "height": Y}).space
    assert space.labels == (
        "beta[age]",
        "beta[height]",
        "S[age,age]",
        "S[height,age]",
        "S[height,height]",
        "g[a b]",
        "g[c,d]",
    )
    for i, label in enumerate(space.labels):
        assert space.resolve(label).tolist() == [i]
    assert space.resolve("S[age,height]").tolist() == [3]
    assert space.resolve("beta[1]").tolist() == [1]


def test_fixed_by_address() -> None:
    """One coefficient of a vector, by number and by label; the result keeps the place."""
    data = REGRESSION.make(3)
    for address in ("beta[1]", "beta[-2]"):
        res = REGRESSION.plain.fit(data, start=REGRESSION.start, fixed={address: -0.5})
        np.testing.assert_allclose(res.params, truth(REGRESSION, data, {"beta[1]": -0.5}).values, rtol=1e-8)
        assert res.params["beta[1]"] == -0.5
        assert res.params_tree["beta"].shape == (3,)


@pytest.mark.parametrize(
    ("member", "fixed", "message"),
    [
        (MULTINOMIAL, {"pi[0]": 0.2}, "single entries of Simplex.*fix the whole of 'pi'"),
        (ORDERED, {"cut[1]": 0.2}, "single entries of Ordered"),
        (BIVARIATE, {"Sigma[0,0]": 1.0}, "single entries of Covariance"),
        (MULTINOMIAL, {"pi": [0.5, 0.5, 0.5, 0.5]}, "fixed: pi is declared Simplex"),
        (BIVARIATE, {"Sigma": [[1.0, 2.0], [2.0, 1.0]]}, "fixed: Sigma is declared Covariance"),
        (GAUSSIAN, {"sigma": -1.0}, "fixed: sigma is declared Positive"),
        (GAUSSIAN, {"mu": [1.0, 2.0]}, r"fixed='mu': expected shape \(\)"),
        (GAUSSIAN, {"mo": 1.0}, "no parameter 'mo'.*did you mean mu"),
        (GAUSSIAN, {"mu": np.nan}, "fixed: mu"),
        (GAUSSIAN, ["mu"], "fixed= expected a dict"),
    ],
)
def test_what_cannot_be_fixed(member: Any, fixed: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        member.plain.fit(member.make(0), start=member.start, fixed=fixed)


def test_columns_of_the_data_decide_the_shape() -> None:
    model = mle.model(beta=mle.Real(columns="X"))(lambda p, d: -((d["y"] - d["X"] @ p["beta"]) ** 2))
    assert model.prepare({"y": Y, "X": np.ones((40, 3))}).space.labels == ("beta[0]", "beta[1]", "beta[2]")
    with pytest.raises(mle.MissingColumnError, match="X"):
        model.prepare({"y": Y})
    with pytest.raises(mle.DataError, match="expected a matrix"):
        model.prepare({"y": Y, "X": Y})
    with pytest.raises(ValueError, match="3 columns of 'X', got 2 labels"):
        mle.model(beta=mle.Real(columns="X", labels=["a", "b"]))(lambda p, d: d["X"] @ p["beta"]).prepare(
            {"X": np.ones((4, 3))}
        )


def test_shared_and_static_reach_the_function_unwrapped() -> None:
    seen: dict[str, Any] = {}

    @mle.model(mu=mle.Real())
    def peek(p: Any, d: Any) -> Any:
        seen.update(knots=d["knots"].shape, lag=d["lag"], name=d["name"])
        return -((d["y"] - p["mu"] - d["knots"].sum() * d["lag"]) ** 2)

    data = {"y": Y, "knots": mle.Shared(np.arange(3.0)), "lag": mle.Static(2), "name": mle.Static("spline")}
    res = peek.fit(data, start={"mu": 0.0})
    assert seen == {"knots": (3,), "lag": 2, "name": "spline"}
    assert res.params["mu"] == pytest.approx(Y.mean() - 6.0, rel=1e-9)


def test_only_columns_that_are_read_are_looked_at() -> None:
    import pandas as pd

    frame = pd.DataFrame({"y": Y, "name": ["x"] * 40, "broken": [np.nan] * 40})
    res = mle.model(mu=mle.Real())(squares).fit(frame, start={"mu": 0.0})
    assert res.params["mu"] == pytest.approx(Y.mean(), rel=1e-9)


def _add(p: Any, d: Any, x: Any) -> Any:
    return norm.logpdf(d["y"], p["a"] + p["b"] * x, p["s"])


CLOSED = {"x": np.linspace(-1.0, 1.0, 60)}


@pytest.mark.parametrize(
    "function",
    [
        lambda p, d: _add(p, d, CLOSED["x"]),
        lambda p, d: _add(p, d, jnp.asarray(CLOSED["x"])),
        functools.partial(_add, x=CLOSED["x"]),
        lambda p, d, x=CLOSED["x"]: _add(p, d, x),
    ],
    ids=["dict", "jnp", "partial", "default"],
)
def test_arrays_from_outside_that_have_no_name_are_found_in_the_trace(function: Any) -> None:
    model = mle.model(a=mle.Real(), b=mle.Real(), s=mle.Positive())(function)
    with pytest.raises(mle.LikelihoodError, match=r"It uses an array of shape \(60,\) from outside"):
        model.fit({"y": np.ones(60)})


def test_columns_from_outside_in_models_by_unit_and_by_row() -> None:
    x, y = CLOSED["x"], np.arange(60.0)
    by_unit = mle.model(a=mle.Real(), unit="g")(
        lambda p, d: jnp.sum(jnp.where(d["mask"], norm.logpdf(d["y"], p["a"] * x), 0.0))
    )
    with pytest.raises(mle.LikelihoodError, match=r"rows of one g at a time.*It uses x \(shape \(60,\)\) from outside"):
        by_unit.fit({"y": y, "g": np.repeat(np.arange(20), 3)})
    by_row = mle.model(c=mle.Real(shape=2))(lambda p, d: norm.logpdf(d["y"], p["c"][0] + p["c"][1] * x))
    with pytest.raises(mle.LikelihoodError, match=r"one row at a time.*It uses x \(shape \(60,\)\) from outside"):
        by_row.regress(c="z").fit({"y": y, "z": x})
