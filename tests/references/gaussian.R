# Heights ~ N(mu, sigma^2): the closed form, from lm. Maximum likelihood divides the residual sum of squares by n.
source("tests/references/common.R")
d <- read_data("heights")
fit <- lm(height ~ 1, data = d)
n <- nrow(d)
sigma <- sqrt(sum(residuals(fit)^2) / n)
z <- residuals(fit) / sigma
# Per-row scores of (mu, sigma); the information at the maximum is diag(n, 2n) / sigma^2.
scores <- cbind(z / sigma, (z^2 - 1) / sigma)
inverse <- diag(c(1 / n, 1 / (2 * n))) * sigma^2
hc0 <- sqrt(diag(inverse %*% crossprod(scores) %*% inverse))
write_reference("gaussian", "height ~ N(mu, sigma^2)", "lm(height ~ 1), sigma^2 = RSS/n", "stats", n, as.numeric(logLik(fit)),
                c(mu = unname(coef(fit)), sigma = sigma), c(mu = sigma / sqrt(n), sigma = sigma / sqrt(2 * n)),
                c(mu = hc0[1], sigma = hc0[2]))
