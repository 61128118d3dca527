# Profile-likelihood intervals of logistic and Poisson regressions: MASS's confint, which interpolates (up to 3e-4 standard
# errors off), and the same ends by bisection of the deviance with the others maximised.
source("tests/references/common.R")
suppressMessages(library(MASS))
control <- glm.control(epsilon = 1e-15, maxit = 100)

bisect <- function(X, y, family, j, side) {
  full <- glm.fit(X, y, family = family, control = control)
  above <- function(b) {
    fit <- suppressWarnings(glm.fit(X[, -j, drop = FALSE], y, offset = X[, j] * b, family = family, control = control))
    fit$deviance - full$deviance - qchisq(0.95, 1) > 0
  }
  inside <- 0
  outside <- 0.1
  while (!above(full$coefficients[j] + side * outside)) outside <- 2 * outside
  for (i in 1:200) {
    middle <- (inside + outside) / 2
    if (above(full$coefficients[j] + side * middle)) outside <- middle else inside <- middle
  }
  full$coefficients[j] + side * inside
}

record <- function(formula, family, data) {
  fit <- glm(formula, family, data, control = control)
  R <- suppressMessages(confint(fit))
  X <- model.matrix(fit)
  y <- model.response(model.frame(fit))
  ends <- function(side) setNames(vapply(seq_len(ncol(X)), function(j) bisect(X, y, family, j, side), 0), colnames(X))
  se <- sqrt(diag(vcov(fit)))
  fields <- c(lower = numbers(ends(-1), 4), upper = numbers(ends(1), 4), confint_lower = numbers(R[, 1], 4),
              confint_upper = numbers(R[, 2], 4), se = numbers(se, 4))
  object(names(fields), fields, 2)
}

budworm <- data.frame(ldose = rep(0:5, 2), numdead = c(1, 4, 9, 13, 18, 20, 0, 2, 6, 10, 12, 16), sexM = rep(1:0, c(6, 6)))
d <- read_data("birthwt")
d$black <- 1 * (d$race == "black")
d$other <- 1 * (d$race == "other")
all <- c(
  software = { v <- versions("MASS"); object(names(v), quoted(v), 2) },
  budworm = record(cbind(numdead, 20 - numdead) ~ sexM * ldose, binomial(), budworm),
  birthwt = record(low ~ age + lwt + black + other + smoke + ht + ui, binomial(), d),
  warpbreaks = record(breaks ~ wool_b + tension_m + tension_h, poisson(), read_data("warpbreaks"))
)
cat(object(names(all), all, 0), "\n", sep = "", file = "tests/references/profile.json")
