"""Directions that ray tests follow: laid out for many ends at once, described when somebody asks."""

import pickle

import numpy as np
import pytest

from mlejax.fit.diagnose.directions import probes as directions
from mlejax.fit.diagnose.directions import rays
from mlejax.status import End
from mlejax.verdict import Direction, Evidence, Findings, code_of, judge


def test_words_are_made_once_when_asked_for() -> None:
    asked = []

    def words() -> tuple[str, tuple[str, ...]]:
        asked.append(1)
        return "mu -> +inf", ("mu",)

    rising = Direction("rises", np.ones(1), 2.0, -3.0, words)
    end = Evidence(End.CONVERGED, 1e-12, (1e-12,), 0.5, 1.0, True, findings=Findings((rising,)))
    assert code_of(end) == "no_finite_maximum"
    assert not asked
    assert judge(end).statement == "the log-likelihood keeps rising towards -3 along mu -> +inf"
    assert rising.names == ("mu",)
    assert asked == [1]
    again = pickle.loads(pickle.dumps(Direction("rises", np.ones(1), 2.0, -3.0, lambda: ("a", ("b",)))))
    assert (again.movement, again.names, again.bounded) == ("a", ("b",), True)


def test_many_ends_have_the_directions_of_each_alone() -> None:
    rng = np.random.default_rng(0)
    u, score, origin = rng.normal(size=(3, 5, 4)) * np.array([1.0, 1e3, 1e-3, 1.0])
    roots = rng.normal(size=(5, 4, 4))
    information = roots @ roots.swapaxes(1, 2)
    free = np.ones((5, 4), bool)
    information[1, :, 2] = information[1, 2, :] = 0.0  # no curvature by one coordinate
    information[2] = np.ones((4, 4))  # three null directions
    information[3, 0, 1] = np.nan
    free[4, 1] = False
    nothing = np.full((5, 4), np.inf)
    many = directions.suspicious_directions(u, score, information, free, origin, nothing)
    for i in range(5):
        ends = (a[i : i + 1] for a in (u, score, information, free, origin, nothing))
        np.testing.assert_array_equal(many[i], directions.suspicious_directions(*ends)[0])
    assert [len(m) for m in many] == [4 + 2, 1 + 4 + 2, 3 + 4 + 2, 4 + 2, 3 + 2]
    np.testing.assert_allclose(many[0][0], np.linalg.solve(information[0], score[0]), rtol=1e-8)
    np.testing.assert_array_equal(many[1][0], [0.0, 0.0, max(1.0, abs(u[1, 2])), 0.0])
    for vector in many[2][:3]:
        assert abs(vector.sum()) < 1e-12, "what the ones leave out"
    assert np.all(many[4][:, 1] == 0.0), "what is on its edge is moved inward by the caller"


def test_of_many_coordinates_those_in_doubt_are_followed_alone() -> None:
    p = directions.MAX_COORDINATES + 3
    u, score = np.zeros((1, p)), np.full((1, p), 1e-6)
    information = np.diag(np.r_[1e-14, 1e-9, np.ones(p - 2)])[None]  # two levels of a factor without events, say
    free, believed = np.ones((1, p), bool), np.full((1, p), 1e3)
    (vectors,) = directions.suspicious_directions(u, score, information, free, u, believed)
    assert [np.flatnonzero(v).tolist() for v in vectors[-2:]] == [[0], [1]]
    assert len(vectors) == 1 + 2  # and Newton's step; the path so far has no length
    information = np.eye(p) + np.pad(np.ones((p - 1, p - 1)), (0, 1)) * 1e4
    information[:-1, :-1] -= np.eye(p - 1) - np.ones((p - 1, p - 1)) / (p - 1)  # all but one columns are one
    (vectors,) = directions.suspicious_directions(u, score, information[None], free, u, believed)
    assert len(vectors) == (p - 2) + 1  # what is collinear is followed once, not also entry by entry


@pytest.mark.parametrize("steep", [True, False])
def test_first_points_are_those_of_each_alone(steep: bool) -> None:
    rng = np.random.default_rng(1)
    u, v, score = rng.normal(size=(3, 6, 3))
    information = np.broadcast_to(np.diag([4.0, 9.0, 1.0]) * steep, (6, 3, 3))
    tested = rays.make_rays(v, u, score, information, np.array([False, False, True]))
    for i, look in enumerate(tested):
        alone = rays.make_rays(v[i : i + 1], u[i], score[i], information[i], np.array([False, False, True]))[0]
        np.testing.assert_array_equal(look.unit, alone.unit)
        assert (look.first, look.steep) == (alone.first, alone.steep) == (look.first, steep)
        if steep:
            np.testing.assert_allclose(look.unit @ information[i] @ look.unit, 1.0, rtol=1e-12)
        assert look.first <= 1.0
        assert look.first * abs(look.unit[2]) <= 1.0 + 1e-12, "a logarithm moves by one at most"
        assert look.first * abs(score[i] @ look.unit) <= 1.0 + 1e-12, "a straight line gains one at most"
