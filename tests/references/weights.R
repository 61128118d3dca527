# Weighted fits: frequency weights (with an offset) by glm and on the expanded rows, sampling weights by sandwich and survey.
# The weights are made here, from the row number i = 0, 1, ...: tests make them again by the same formulas.
source("tests/references/common.R")
library(sandwich)
control <- glm.control(epsilon = 1e-15, maxit = 100)

write_fits <- function(name, packages, fits) {
  v <- versions(packages)
  parts <- vapply(fits, function(f) {
    fields <- c(call = quoted(f$call))
    for (part in setdiff(names(f), c("call", "loglik", "nobs"))) fields <- c(fields, setNames(numbers(f[[part]], 4), part))
    if (!is.null(f$loglik)) fields <- c(fields, loglik = number(f$loglik), nobs = number(f$nobs))
    object(names(fields), fields, 2)
  }, "")
  cat(object(c("software", names(fits)), c(object(names(v), quoted(v), 2), parts), 0), "\n", sep = "",
      file = file.path("tests", "references", paste0(name, ".json")))
}
root <- function(v, names) setNames(sqrt(diag(v)), names)

d <- read_data("warpbreaks")
i <- seq_len(nrow(d)) - 1
d$w <- i %% 4                      # zeros among them
d$exposure <- 1 + i %% 5
formula <- breaks ~ wool_b + tension_m + tension_h + offset(log(exposure))
fit <- glm(formula, poisson, d, weights = w, control = control)
long <- glm(formula, poisson, d[rep(seq_len(nrow(d)), d$w), ], control = control)
stopifnot(all.equal(coef(fit), coef(long), tolerance = 1e-12))
names <- c("beta[0]", "beta[1]", "beta[2]", "beta[3]")
frequency <- list(
  call = "glm(breaks ~ wool_b + tension_m + tension_h + offset(log(1 + i %% 5)), poisson, weights = i %% 4)",
  params = setNames(coef(fit), names), se = root(vcov(fit), names), se_hc0 = root(sandwich(long), names),
  se_hc1 = root(vcovHC(long, "HC0") * nobs(long) / (nobs(long) - 4), names),
  loglik = as.numeric(logLik(long)), nobs = nobs(long))

d <- read_data("birthwt")
i <- seq_len(nrow(d)) - 1
d$pw <- ifelse(i %% 11 == 5, 0, 0.25 + (i %% 7) / 3)
d$g <- i %% 13
formula <- low ~ age + lwt + smoke + ht
fit <- glm(formula, quasibinomial, d, weights = pw, subset = pw > 0, control = control)
names <- c("beta[0]", "beta[1]", "beta[2]", "beta[3]", "beta[4]")
kept <- d[d$pw > 0, ]
rows <- survey::svyglm(formula, survey::svydesign(ids = ~1, weights = ~pw, data = kept), family = quasibinomial, control = control)
groups <- survey::svyglm(formula, survey::svydesign(ids = ~g, weights = ~pw, data = kept), family = quasibinomial, control = control)
p <- fitted(fit)
sampling <- list(
  call = "glm(low ~ age + lwt + smoke + ht, quasibinomial, weights = ifelse(i %% 11 == 5, 0, 0.25 + (i %% 7) / 3))",
  params = setNames(coef(fit), names), se_hc0 = root(sandwich(fit), names),
  se_svyglm = root(vcov(rows), names), se_svyglm_clusters = root(vcov(groups), names),
  loglik = sum(kept$pw * ifelse(kept$low == 1, log(p), log1p(-p))), nobs = nrow(kept))
write_fits("weights", c("stats", "sandwich", "survey"), list(frequency = frequency, sampling = sampling))
