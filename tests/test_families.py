"""Families of scipy.stats without a start: the densities of `benchmarks/families.py`, its record, and a few of it again."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from benchmarks.families import FAMILIES, LOCATION, SCALE, arguments, drawn, model_of, run, truth
from benchmarks.recorded import RESULTS

QUICK = ("loggamma", "invgauss")


def test_the_densities_are_those_of_scipy() -> None:
    with jax.enable_x64(True):
        for name, family in FAMILIES.items():
            y = drawn(name, family.true, family.where, 1, 0)[0]
            scale = [SCALE] if family.where != "unit" else []
            at = arguments(name, [*family.true, *([LOCATION] if family.where == "line" else []), *scale])
            ours = np.asarray(family.log_density(jnp.asarray((y - at[-2]) / at[-1]), *family.true)) - np.log(at[-1])
            np.testing.assert_allclose(ours, getattr(stats, name).logpdf(y, *at), rtol=1e-9, atol=1e-9, err_msg=name)


def test_the_record_has_no_untrue_statement() -> None:
    record = json.loads((RESULTS / "families.json").read_text())
    assert set(record["families"]) == set(FAMILIES)
    assert record["regular"]["right"] >= 0.99 * record["regular"]["fits"]
    assert record["regular"]["untrue"] == record["limit"]["untrue"] == 0


@pytest.mark.parametrize("name", [pytest.param(f, marks=() if f in QUICK else pytest.mark.slow) for f in FAMILIES])
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_one_sample_again(name: str) -> None:
    found = run(name, 1)
    assert found["regular"]["right"] == found["regular"]["fits"]
    assert not found.get("limit", {}).get("untrue")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_a_little_rise_by_rounding_is_not_without_bound() -> None:
    """Johnson's SU of normal data rises to the maximum of a normal or lognormal law; the formula loses its digits on the way."""
    y = drawn("norm", (), "line", 10, 7 + sorted(FAMILIES).index("johnsonsu"))
    many = model_of("johnsonsu").fit_batch({"y": y})
    statements = [many[i].verdict.statement for i in range(10)]
    assert not any("without bound" in said for said in statements), statements
    i = next(i for i, said in enumerate(statements) if "keeps rising towards" in said)
    assert many[i].verdict.evidence["supremum"] == pytest.approx(truth("johnsonsu", y[i]), abs=0.02)
