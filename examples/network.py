"""A neural network as a likelihood: handwritten digits, with standard errors for the last layer.

The cross-entropy that classifiers minimise is minus the log-likelihood of a multinomial logit whose covariates are the
hidden layer. The first class is the baseline, with scores 0: ten free columns would not be identified.

    python examples/network.py
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits  # the data come with scikit-learn
from sklearn.model_selection import train_test_split

import mlejax as mle

N_PIXELS, N_HIDDEN, N_CLASSES = 64, 40, 10
RIDGE = 1.0  # subtracted: half of it times the sum of squared weights


def layer(rng, n_in, n_out):
    """Starting weights (Glorot & Bengio 2010)."""
    bound = np.sqrt(6 / (n_in + n_out))
    return {"w": rng.uniform(-bound, bound, (n_in, n_out)), "b": np.zeros(n_out)}


rng = np.random.default_rng(0)
START = {"hidden": layer(rng, N_PIXELS, N_HIDDEN), "last": layer(rng, N_HIDDEN, N_CLASSES - 1)}


def scores(params, data):
    hidden = jnp.tanh(data["pixels"] @ params["hidden"]["w"] + params["hidden"]["b"])
    others = hidden @ params["last"]["w"] + params["last"]["b"]
    return jnp.concatenate([jnp.zeros_like(others[:, :1]), others], axis=1)


@mle.model(hidden=mle.Free(start=START["hidden"]), last=mle.Free(start=START["last"]))
def network(params, data):
    return jnp.take_along_axis(jax.nn.log_softmax(scores(params, data)), data["digit"][:, None], axis=1)[:, 0]


def digits():
    """Training and test data, 1,257 and 540 images."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, test_size=0.3, random_state=0, stratify=labels)
    return ({"pixels": parts[0], "digit": parts[2]}, {"pixels": parts[1], "digit": parts[3]})


def accuracy(res, data):
    return float(np.mean(np.argmax(scores(res.params_tree, data), axis=1) == data["digit"]))


def train(data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)  # training never ends at a maximum, and we know
        adam = mle.Adam(optax.cosine_decay_schedule(0.01, 20 * 80), batch_size=64, epochs=80)
        return network.fit(data, method=adam, penalty=mle.l2(RIDGE, "hidden.w", "last.w"), progress=False, **options)


if __name__ == "__main__":
    training, test = digits()
    res = train(training)
    print(res.summary())
    print(
        f"\nAccuracy: {accuracy(res, training):.3f} on the training data, {accuracy(res, test):.3f} on the test data\n"
    )
    print(res.subset_errors("last.b"))
