"""Whether differences of the log-likelihood are real or rounding, and searches where its digits are lost."""
