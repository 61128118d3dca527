# Logistic and Poisson regression by glm. Both links are canonical, so the expected information is the observed one.
source("tests/references/common.R")
control <- glm.control(epsilon = 1e-15, maxit = 100)

record <- function(name, model, call, fit) {
  names <- c("intercept", paste0("beta[", names(coef(fit))[-1], "]"))
  se <- function(v) setNames(sqrt(diag(v)), names)
  write_reference(name, model, call, c("stats", "sandwich"), nobs(fit), as.numeric(logLik(fit)),
                  setNames(coef(fit), names), se(vcov(fit)), se(sandwich::sandwich(fit)))
}

d <- read_data("birthwt")
d$black <- 1 * (d$race == "black")
d$other <- 1 * (d$race == "other")
fit <- glm(low ~ age + lwt + black + other + smoke + ht + ui, binomial, d, control = control)
record("logit", "low ~ Bernoulli(logistic(intercept + x beta))",
       "glm(low ~ age + lwt + black + other + smoke + ht + ui, binomial)", fit)

d <- read_data("warpbreaks")
fit <- glm(breaks ~ wool_b + tension_m + tension_h, poisson, d, control = control)
record("poisson", "breaks ~ Poisson(exp(intercept + x beta))", "glm(breaks ~ wool_b + tension_m + tension_h, poisson)", fit)
