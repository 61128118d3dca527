# Regressed parameters: generalised linear models with offsets, an accelerated failure time model with its scale by
# strata, a negative binomial model with exposure, a multinomial logit, and a normal location-scale model.
# Names of coefficients are mlejax's addresses: parameter[column], with R's dummies spelled as formulaic spells them.
source("tests/references/common.R")
control <- glm.control(epsilon = 1e-15, maxit = 100)

spelled <- function(names, factors) {
  names[names == "(Intercept)"] <- "Intercept"
  for (f in factors) names <- gsub(f, paste0(f, "[T."), names, fixed = TRUE)
  ifelse(grepl("[T.", names, fixed = TRUE), paste0(names, "]"), names)
}
addressed <- function(parameter, names) paste0(parameter, "[", names, "]")
errors <- function(v, names) setNames(sqrt(diag(v)), names)

# An exact gradient, or none: Newton steps to the maximum of a log-likelihood, with numDeriv's Hessian.
polished <- function(loglik, theta, gradient = function(t) numDeriv::grad(loglik, t)) {
  for (turn in 1:6) {
    H <- numDeriv::jacobian(gradient, theta)
    theta <- theta - solve((H + t(H)) / 2, gradient(theta))
  }
  H <- numDeriv::jacobian(gradient, theta)
  v <- solve(-(H + t(H)) / 2)
  g <- gradient(theta)
  stopifnot(sqrt(drop(g %*% v %*% g)) < 1e-9)
  list(theta = theta, v = v, loglik = loglik(theta))
}

# ---- glm, binomial, with an offset (0.01 per pound over 130)
d <- read_data("birthwt")
d$known <- 0.01 * (d$lwt - 130)
fit <- glm(low ~ age + race + smoke + offset(known), binomial, d, control = control)
names <- addressed("p", spelled(names(coef(fit)), "race"))
write_reference("regress_logit", "low ~ Bernoulli(p), logit(p) = x beta + 0.01 (lwt - 130)",
                "glm(low ~ age + race + smoke + offset(0.01 * (lwt - 130)), binomial)", c("stats", "sandwich"), nobs(fit),
                as.numeric(logLik(fit)), setNames(coef(fit), names), errors(vcov(fit), names),
                errors(sandwich::sandwich(fit), names))
new <- data.frame(age = c(20, 30), race = c("white", "other"), smoke = c(1, 0), known = c(0, 0.2))
at <- predict(fit, new, type = "response", se.fit = TRUE)
link <- predict(fit, new, se.fit = TRUE)
write_reference("regress_logit_predicted", "p of new rows, standard errors by the delta method",
                "predict(fit, new, type = 'response', se.fit = TRUE)", "stats", 2, as.numeric(logLik(fit)),
                setNames(at$fit, c("p[0]", "p[1]")), setNames(at$se.fit, c("p[0]", "p[1]")))

# ---- glm, poisson, with an offset
d <- read_data("ships")
d$year <- factor(d$year)
d$period <- factor(d$period)
fit <- glm(incidents ~ type + year + period + offset(log(service)), poisson, d, control = control)
raw <- spelled(names(coef(fit)), c("type", "year", "period"))
names <- addressed("rate", gsub("(year|period)\\[", "C(\\1)[", raw))
write_reference("regress_poisson", "incidents ~ Poisson(rate), log(rate) = x beta + log(service)",
                "glm(incidents ~ type + factor(year) + factor(period) + offset(log(service)), poisson)",
                c("stats", "sandwich"), nobs(fit), as.numeric(logLik(fit)), setNames(coef(fit), names),
                errors(vcov(fit), names), errors(sandwich::sandwich(fit), names))

# ---- survreg, Weibull, and with the scale by sex
library(survival)
d <- read_data("lung")
exact <- survreg.control(maxiter = 100, rel.tolerance = 1e-15, toler.chol = 1e-14)
fit <- survreg(Surv(time, event) ~ age + female + ph_ecog, d, dist = "weibull", control = exact)
names <- c(addressed("mu", spelled(names(coef(fit)), character())), "sigma")
scale <- c(rep(1, length(coef(fit))), fit$scale)
write_reference("regress_weibull", "log T = mu + sigma W, W standard minimum extreme value; density of T",
                "survreg(Surv(time, event) ~ age + female + ph_ecog, dist = 'weibull')", "survival", nrow(d),
                as.numeric(logLik(fit)), setNames(c(coef(fit), fit$scale), names),
                setNames(scale * sqrt(diag(vcov(fit))), names))
fit <- survreg(Surv(time, event) ~ age + female + ph_ecog + strata(female), d, dist = "weibull", control = exact)
k <- length(coef(fit))
# Log(scale) of each stratum -> log sigma = intercept + slope female
A <- diag(k + 2)
A[k + 2, k + 1] <- -1
names <- c(addressed("mu", spelled(names(coef(fit)), character())), "sigma[Intercept]", "sigma[female]")
write_reference("regress_weibull_scale", "log T = mu + sigma W, log(sigma) = intercept + slope female",
                "survreg(Surv(time, event) ~ age + female + ph_ecog + strata(female), dist = 'weibull')", "survival",
                nrow(d), as.numeric(logLik(fit)), setNames(drop(A %*% c(coef(fit), log(fit$scale))), names),
                errors(A %*% vcov(fit) %*% t(A), names),
                notes = "log scales of the two strata turned into intercept and slope")

# ---- glm.nb with exposure
d <- read_data("road")
fit <- MASS::glm.nb(deaths ~ popden + rural + temp + offset(log(drivers)), d, control = glm.control(1e-14, 100))
X <- model.matrix(fit)
nb <- function(t) {
  sum(dnbinom(d$deaths, mu = exp(drop(X %*% t[1:4]) + log(d$drivers)), size = t[5], log = TRUE))
}
gradient <- function(t) {
  mu <- exp(drop(X %*% t[1:4]) + log(d$drivers))
  y <- d$deaths
  c(colSums(X * (y - mu) * t[5] / (t[5] + mu)),
    sum(digamma(y + t[5]) - digamma(t[5]) + log(t[5] / (t[5] + mu)) + (mu - y) / (t[5] + mu)))
}
best <- polished(nb, c(coef(fit), fit$theta), gradient)
stopifnot(max(abs(best$theta - c(coef(fit), fit$theta)) / sqrt(diag(best$v))) < 1e-4)
names <- c(addressed("mu", spelled(colnames(X), character())), "theta")
write_reference("regress_negbin", "deaths ~ NB2(mu, theta), log(mu) = x beta + log(drivers), variance mu + mu^2 / theta",
                "glm.nb(deaths ~ popden + rural + temp + offset(log(drivers))) + Newton on the same likelihood",
                c("MASS", "numDeriv"), nrow(d), best$loglik, setNames(best$theta, names), errors(best$v, names),
                notes = c("inverse observed information of all five; glm.nb's own standard errors take theta as known",
                          sprintf("glm.nb itself: %s", paste(sprintf("%.6g (%.4g)", c(coef(fit), fit$theta),
                                  c(sqrt(diag(vcov(fit))), fit$SE.theta)), collapse = ", "))))

# ---- multinomial logit
d <- read_data("housing")
level <- function(x) factor(x, levels = unique(x))
d$satisfaction <- level(d$satisfaction)
fit <- nnet::multinom(satisfaction ~ influence + type + contact, d, weights = count, trace = FALSE, maxit = 1000,
                      reltol = 1e-15, abstol = 1e-15)
X <- model.matrix(~ influence + type + contact, d)
y <- as.integer(d$satisfaction)
multinomial <- function(t) {
  eta <- cbind(0, X %*% matrix(t, ncol = 2))
  sum(d$count * (eta[cbind(seq_along(y), y)] - log(rowSums(exp(eta)))))
}
gradient <- function(t) {
  eta <- cbind(0, X %*% matrix(t, ncol = 2))
  p <- exp(eta) / rowSums(exp(eta))
  c(sapply(2:3, function(j) colSums(X * d$count * ((y == j) - p[, j]))))
}
best <- polished(multinomial, c(t(coef(fit))), gradient)
stopifnot(max(abs(best$theta - c(t(coef(fit)))) / sqrt(diag(best$v))) < 1e-3)
columns <- spelled(colnames(X), c("influence", "type", "contact"))
names <- c(addressed("p[medium]", columns), addressed("p[high]", columns))
write_reference("regress_multinom", "satisfaction ~ Multinomial(p), log(p_j / p_low) = x beta_j, counts as frequencies",
                "nnet::multinom(satisfaction ~ influence + type + contact, weights = count) + Newton on the same likelihood",
                c("nnet", "numDeriv"), sum(d$count), best$loglik, setNames(best$theta, names), errors(best$v, names))

# ---- normal, location and scale
d <- read_data("cars")
normal <- function(t) sum(dnorm(d$dist, t[1] + t[2] * d$speed, exp(t[3] + t[4] * d$speed), log = TRUE))
gradient <- function(t) {
  s <- exp(t[3] + t[4] * d$speed)
  z <- (d$dist - t[1] - t[2] * d$speed) / s
  c(sum(z / s), sum(z / s * d$speed), sum(z^2 - 1), sum((z^2 - 1) * d$speed))
}
start <- optim(c(coef(lm(dist ~ speed, d)), 2, 0), normal, gradient, method = "BFGS",
               control = list(fnscale = -1, reltol = 1e-14, maxit = 1000))$par
best <- polished(normal, start, gradient)
names <- c("mu[Intercept]", "mu[speed]", "sigma[Intercept]", "sigma[speed]")
write_reference("regress_scale", "dist ~ N(mu, sigma^2), mu = a + b speed, log(sigma) = c + d speed",
                "optim(BFGS) + Newton with numDeriv's Hessian of the exact gradient", c("stats", "numDeriv"), nrow(d),
                best$loglik, setNames(best$theta, names), errors(best$v, names))
