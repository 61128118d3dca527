"""The example's network against scikit-learn's of the same shape, on the same images."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

EXAMPLE = Path(__file__).parent.parent / "examples" / "network.py"


def test_the_network_reaches_the_accuracy_of_scikit_learn() -> None:
    """64-40-10 with tanh, both by Adam on minibatches; half a percent is 2 or 3 of the 540 test images.

    Errors of the last layer against the information of a penalised multinomial logit, given the hidden layer.
    """
    example = runpy.run_path(str(EXAMPLE), run_name="network")
    training, test = example["digits"]()
    res = example["train"](training)
    options = {"learning_rate_init": 0.003, "batch_size": 64, "max_iter": 80, "random_state": 0}
    theirs = MLPClassifier((example["N_HIDDEN"],), activation="tanh", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # after 80 epochs its loss still falls a little
        theirs.fit(training["pixels"], training["digit"])
    reached = theirs.score(test["pixels"], test["digit"])
    assert reached > 0.96, "or scikit-learn's did not train"
    assert example["accuracy"](res, test) >= reached - 0.005
    assert example["accuracy"](res, training) > 0.99
    found = res.subset_errors("last")
    assert found.bse.shape == (369,)
    hidden = np.tanh(training["pixels"] @ res.params_tree["hidden"]["w"] + res.params_tree["hidden"]["b"])
    eta = np.c_[np.zeros(len(hidden)), hidden @ res.params_tree["last"]["w"] + res.params_tree["last"]["b"]]
    p = np.exp(eta - eta.max(axis=1, keepdims=True))
    p = (p / p.sum(axis=1, keepdims=True))[:, 1:]
    design = np.c_[hidden, np.ones(len(hidden))]
    block = np.einsum("ni,nj,na,nb->aibj", design, design, p, -p, optimize=True)
    for a in range(9):
        block[a, :, a, :] += (design * p[:, [a]]).T @ design
    order = [a * 41 + 40 for a in range(9)] + [a * 41 + h for h in range(40) for a in range(9)]  # last.b, then last.w
    information = block.reshape(369, 369)[np.ix_(order, order)]
    information[range(9, 369), range(9, 369)] += example["RIDGE"]
    np.testing.assert_allclose(found.bse, np.sqrt(np.diag(np.linalg.inv(information))), rtol=1e-6)
