# A logistic ridge by mgcv: a parametric term with a quadratic penalty of a given strength (paraPen with sp).  mgcv's Ve is
# Gray's covariance, Vp the Bayesian one, and edf the trace of H_P^-1 I; logit is the canonical link, so that the expected
# information is the observed one.  The covariates are standardised here, from the data.
source("tests/references/common.R")
library(mgcv)
d <- read_data("birthwt")
X <- scale(as.matrix(d[, c("age", "lwt", "smoke", "ht", "ui")]))
strength <- 7
fit <- gam(d$low ~ X, family = binomial, paraPen = list(X = list(diag(5), sp = strength)),
           control = gam.control(epsilon = 1e-14, maxit = 500))
names <- c("intercept", paste0("beta[", colnames(X), "]"))
v <- versions(c("mgcv"))
p <- fitted(fit)
fields <- list(software = object(names(v), quoted(v), 2),
  call = quoted("gam(low ~ X, binomial, paraPen = list(X = list(diag(5), sp = 7)))"),
  params = numbers(setNames(coef(fit), names)),
  se_nonrobust = numbers(setNames(sqrt(diag(fit$Ve)), names)),
  se_bayes = numbers(setNames(sqrt(diag(fit$Vp)), names)),
  edf = number(sum(fit$edf)), loglik = number(sum(log(ifelse(d$low == 1, p, 1 - p)))),
  penalty = number(strength / 2 * sum(coef(fit)[-1]^2)))
cat(object(names(fields), unlist(fields), 0), "\n", sep = "", file = file.path("tests", "references", "penalty.json"))
