# Maximum penalised likelihood with Jeffreys' prior by brglm2: for canonical links Firth's (1993) bias-reduced estimates.
# Standard errors are those of the unpenalised (expected, here equal to the observed) information at the estimate.
source("tests/references/common.R")
suppressMessages(library(brglm2))

record <- function(name, model, call, fit) {
  names <- c("intercept", paste0("beta[", names(coef(fit))[-1], "]"))
  write_reference(paste0("jeffreys_", name), model, call, "brglm2", nobs(fit), as.numeric(logLik(fit)),
                  setNames(coef(fit), names), setNames(sqrt(diag(vcov(fit))), names))
}
how <- list(type = "MPL_Jeffreys", epsilon = 1e-13, maxit = 10000)

d <- read.csv("tests/cases/iris_separated/data.csv")
fit <- glm(versicolor ~ petal_length, binomial, d, method = "brglmFit", control = how)
record("separated", "versicolor ~ Bernoulli(logistic(intercept + x beta)), completely separated",
       "glm(versicolor ~ petal_length, binomial, method = 'brglmFit', type = 'MPL_Jeffreys')", fit)

d <- read_data("birthwt")
d$black <- 1 * (d$race == "black")
d$other <- 1 * (d$race == "other")
fit <- glm(low ~ age + lwt + black + other + smoke + ht + ui, binomial, d, method = "brglmFit", control = how)
record("logit", "low ~ Bernoulli(logistic(intercept + x beta))",
       "glm(low ~ age + lwt + black + other + smoke + ht + ui, binomial, method = 'brglmFit', type = 'MPL_Jeffreys')", fit)

d <- read_data("warpbreaks")
fit <- glm(breaks ~ wool_b + tension_m + tension_h, poisson, d, method = "brglmFit", control = how)
record("poisson", "breaks ~ Poisson(exp(intercept + x beta))",
       "glm(breaks ~ wool_b + tension_m + tension_h, poisson, method = 'brglmFit', type = 'MPL_Jeffreys')", fit)
