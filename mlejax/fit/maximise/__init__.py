"""From starts to ends: the methods of a fit in turn, EM, and training on minibatches."""
