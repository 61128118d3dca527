# Numbers beside ours in docs/gallery: Rscript tests/references/gallery.R
options(digits = 10)
read <- function(name) read.csv(file.path("examples", "data", paste0(name, ".csv")))
beside <- function(what, ...) { cat("\n", what, "\n", sep = ""); print(...) }
ends <- function(f, start) {  # the maximum of a log-likelihood, and errors from its differenced Hessian
  f0 <- function(p) -f(p)
  for (i in 1:5) { found <- optim(start, f0, method = "BFGS", control = list(reltol = 1e-15, maxit = 5000)); start <- found$par }
  for (i in 1:6) start <- start - solve(numDeriv::hessian(f0, start), numDeriv::grad(f0, start))
  H <- numDeriv::hessian(f0, start)
  rbind(estimate = start, se = sqrt(diag(solve(H))), loglik = f(start))
}

library(survival)
sal <- read.csv("tests/cases/salinity_intcens/data.csv")
left <- ifelse(sal$left == 0, NA, sal$left); right <- ifelse(sal$right < 0, NA, sal$right)
beside("interval-censored salinity", summary(survreg(Surv(left, right, type = "interval2") ~ 1, dist = "lognormal"))$table)
ch <- read("channing")
weib <- function(p) with(ch, { b <- exp(p[2]); e <- p[1] + p[3] * male  # proportional hazards, 1,000 months
  sum(died * (e + p[2] + (b - 1) * log(exit / 1000)) - exp(e) * ((exit / 1000)^b - (entry / 1000)^b)) - sum(died) * log(1000) })
beside("left-truncated Weibull", ends(weib, c(0, 1.9, 0.2)))
re <- read("recid")
cure <- function(p) with(re, { p0 <- plogis(p[1] + p[2] * priors); z <- (log(durat) - p[3]) / exp(p[4])
  sum(ifelse(cens == 1, log(1 - p0 + p0 * pnorm(-z)), log(p0) + dnorm(z, log = TRUE) - p[4] - log(durat))) })
beside("cure", ends(cure, c(0, 0.1, 3, 0.2)))

tr <- read("recreation")
suppressMessages(library(pscl))
f <- trips ~ quality + ski + income + userfee + costC + costS + costH
nb <- MASS::glm.nb(f, tr, control = glm.control(epsilon = 1e-14, maxit = 200))
beside("NB2", c(coef(nb), theta = nb$theta, loglik = logLik(nb)))
h <- hurdle(trips ~ quality + ski + income + userfee + costC + costS + costH | quality + income, tr, dist = "negbin", control = hurdle.control(reltol = 1e-14))
beside("hurdle", c(unlist(coef(h, "count")), coef(h, "zero"), theta = h$theta[["count"]], loglik = logLik(h)))
z <- zeroinfl(trips ~ quality + ski + income + userfee + costC + costS + costH | quality + income, tr, dist = "poisson", control = zeroinfl.control(reltol = 1e-14))
beside("ZIP", c(coef(z), loglik = logLik(z)))

al <- read("alligators")
m <- nnet::multinom(factor(food, c("fish", "invert", "reptile", "bird", "other")) ~ lake + size, al, weights = count, trace = FALSE, reltol = 1e-14, abstol = 1e-14)
beside("multinom", c(loglik = logLik(m)))

el <- read("electricity")
sfa <- function(p) with(el, { q <- log(output); y <- log(cost / fuel); e <- y - p[1] - p[2] * q - p[3] * q^2 - p[4] * log(labor / fuel) - p[5] * log(capital / fuel)
  s <- sqrt(exp(2 * p[6]) + exp(2 * p[7])); l <- exp(p[7] - p[6]); sum(log(2 / s) + dnorm(e / s, log = TRUE) + pnorm(e * l / s, log.p = TRUE)) })
ols <- lm(log(cost / fuel) ~ log(output) + I(log(output)^2) + log(labor / fuel) + log(capital / fuel), el)
beside("frontier", ends(sfa, c(coef(ols) - c(0.1, 0, 0, 0, 0), log(0.1), log(0.15))))

a <- arima(lh, order = c(1, 0, 1), method = "ML", optim.control = list(reltol = 1e-14))
beside("ARMA(1, 1)", c(coef(a), sigma2 = a$sigma2, loglik = logLik(a), se = sqrt(diag(vcov(a)))))

zm <- read("zmumu")
spectrum <- function(p) with(zm, { cdf <- function(x) atan(2 * (x - p[3]) / exp(p[4])) / pi  # Cauchy of width exp(p[4])
  rel <- function(g) (g(high) - g(low)) / (g(120) - g(60)); e <- function(x) -exp(-exp(p[5]) * (x - 60))
  sum(dpois(events, exp(p[1]) * rel(cdf) + exp(p[2]) * rel(e), log = TRUE)) })
beside("spectrum", ends(spectrum, c(log(10000), log(800), 90.8, log(4), log(0.02))))
