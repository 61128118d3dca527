"""The start of a stream: a step from all rows at the estimate of its sample, corrected by the sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import mlejax as mle
from mlejax.execution import Limits, use_limits
from mlejax.fit.prepare.streaming import evaluator_of
from mlejax.fit.start.subsample import onward
from tests.data.streams.samples import frame, logit, parts, write


@pytest.fixture(scope="module")
def of_files(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A fit of 6,011 rows, of which 1,500 are in its sample."""
    folder: Path = tmp_path_factory.mktemp("start")
    with use_limits(Limits(chunk_rows=512, stream_sample_rows=1_500)):
        return logit.fit(write(folder, parts()))._fit


def test_a_step_corrected_by_the_sample_is_nearer_than_newtons(of_files: Any) -> None:
    """From 0.4 beside the estimate (in memory, by another start) in every coefficient: the error of Newton's step is a third
    derivative, of which the sample knows all but a few hundredths.
    """
    want = logit.fit(frame()).params.to_numpy()
    with use_limits(Limits(chunk_rows=512, stream_sample_rows=1_500)), jax.enable_x64(True):
        evaluator = evaluator_of(of_files.spec, of_files.loaded, None)
        of_sample = evaluator.of_sample(evaluator.some)
        assert int(evaluator.some.n) < 1_600
        u = want + 0.4
        _, score, curvature = evaluator.minimised(mle.Newton(), u)
        newton, found = u - np.linalg.solve(curvature, score), onward(evaluator, of_sample, u)
        assert np.abs(newton - want).max() > 1e-2
        assert np.abs(found - want).max() < 0.15 * np.abs(newton - want).max()


def test_there_is_none_where_the_sample_says_nothing_of_the_remainder(of_files: Any) -> None:
    """With a penalty, which is not in its log-likelihood, and so far away that the correction is as large as the step."""
    with use_limits(Limits(chunk_rows=512, stream_sample_rows=1_500)), jax.enable_x64(True):
        evaluator = evaluator_of(of_files.spec, of_files.loaded, None)
        of_sample, far = evaluator.of_sample(evaluator.some), np.full(3, 4.0)
        assert onward(evaluator, of_sample, far) is far
        penalised = evaluator.with_spec(replace(of_files.spec, penalty=lambda p, _: 0.0))
        assert onward(penalised, of_sample, far) is far
