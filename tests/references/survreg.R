# Tobit and Weibull regression by survival::survreg. It estimates log(scale); the standard error of the scale is
# scale * se(log scale), the delta method, which at the maximum equals the inverse observed information in the scale itself.
source("tests/references/common.R")
library(survival)
control <- survreg.control(maxiter = 100, rel.tolerance = 1e-15, toler.chol = 1e-14)

record <- function(name, model, call, fit, n) {
  v <- vcov(fit)
  k <- length(coef(fit))
  scores <- sandwich::estfun(fit)
  # the bread of survreg's own sandwich: the inverse information in (beta, log scale)
  robust <- v %*% crossprod(scores) %*% v
  names <- c("intercept", paste0("beta[", names(coef(fit))[-1], "]"), "sigma")
  scale <- c(rep(1, k), fit$scale)
  write_reference(name, model, call, c("survival", "sandwich"), n, as.numeric(logLik(fit)),
                  setNames(c(coef(fit), fit$scale), names), setNames(scale * sqrt(diag(v)), names),
                  setNames(scale * sqrt(diag(robust)), names),
                  notes = "se of sigma by the delta method from survreg's Log(scale)")
}

d <- read_data("affairs")
f <- Surv(affairs, affairs > 0, type = "left") ~ age + yearsmarried + religiousness + occupation + rating
fit <- survreg(f, data = d, dist = "gaussian", control = control)
record("tobit", "y* ~ N(intercept + x beta, sigma^2), y = max(0, y*)",
       "survreg(Surv(affairs, affairs > 0, type = 'left') ~ age + yearsmarried + religiousness + occupation + rating, dist = 'gaussian')",
       fit, nrow(d))

d <- read_data("lung")
fit <- survreg(Surv(time, event) ~ age + female + ph_ecog, data = d, dist = "weibull", control = control)
record("weibull", "log T = intercept + x beta + sigma W, W standard minimum extreme value, right-censored; density of T",
       "survreg(Surv(time, event) ~ age + female + ph_ecog, dist = 'weibull')", fit, nrow(d))
