"""Run optimisers from given starts: a method with its fallbacks, EM, and training on minibatches."""
