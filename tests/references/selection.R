# Heckman's selection model of Mroz's women by maxLik, from the likelihood written out here.
#   Rscript tests/references/selection.R
suppressMessages(library(maxLik))
d <- read.csv("examples/data/mroz.csv")
works <- !is.na(d$wage); wage <- ifelse(works, d$wage, 0)
Z <- model.matrix(~ age + I(age^2) + faminc + kids + educ, d); X <- model.matrix(~ exper + I(exper^2) + educ + city, d)
scale <- c(1, 1e-1, 1e-3, 1e-5, 1, 1, 1, 1, 1e-2, 1, 1, 1, 1)  # of the parameters, for the optimiser
rows <- function(u) {
  p <- u * scale
  z <- drop(Z %*% p[1:6]); e <- (wage - drop(X %*% p[7:11])) / p[12]
  ifelse(works, dnorm(e, log = TRUE) - log(p[12]) + pnorm((z + p[13] * e) / sqrt(1 - p[13]^2), log.p = TRUE), pnorm(-z, log.p = TRUE))
}
probit <- coef(glm(works ~ Z - 1, binomial("probit"))); line <- lm(wage ~ X - 1, subset = works)
start <- c(probit, coef(line), sd(resid(line)), 0) / scale
fit <- maxLik(rows, start = start, method = "NR", tol = 0, reltol = 0, gradtol = 1e-8, iterlim = 200)
hessian <- numDeriv::hessian(function(u) sum(rows(u)), coef(fit))
options(digits = 9)
print(logLik(fit)); print(cbind(coef(fit) * scale, sqrt(diag(solve(-hessian))) * scale)); print(packageVersion("maxLik"))
