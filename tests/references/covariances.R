# Two-way clusters and HAC by sandwich.  Clusters are made here from the row number i = 0, 1, ...; lags count rows in
# their order.  Factors: vcovCL cadjust gives G/(G-1) to each of the three parts, type HC1 also (n-1)/(n-k), with k the
# number of coefficients (a Poisson model has no other parameter).
source("tests/references/common.R")
library(sandwich)
control <- glm.control(epsilon = 1e-15, maxit = 100)

d <- read_data("warpbreaks")
i <- seq_len(nrow(d)) - 1
d$a <- i %% 10
d$b <- ((11 * i) %/% 3) %% 12
fit <- glm(breaks ~ wool_b + tension_m + tension_h, poisson, d, control = control)
names <- c("beta[0]", "beta[1]", "beta[2]", "beta[3]")
matrix_of <- function(v) setNames(v[lower.tri(v, TRUE)], outer(names, names, paste)[lower.tri(v, TRUE)])
both <- ~ a + b
fields <- list(
  two_way_none = vcovCL(fit, both, type = "HC0", cadjust = FALSE),
  two_way_G = vcovCL(fit, both, type = "HC0", cadjust = TRUE),
  two_way_full = vcovCL(fit, both, type = "HC1", cadjust = TRUE),
  hac_default = NeweyWest(fit, lag = floor(4 * (nrow(d) / 100)^(2 / 9)), prewhite = FALSE, adjust = FALSE),
  hac_0 = NeweyWest(fit, lag = 0, prewhite = FALSE, adjust = FALSE),
  hac_7 = NeweyWest(fit, lag = 7, prewhite = FALSE, adjust = FALSE))
# few clusters, so that the two-way matrix is indefinite: as it comes, and with its negative eigenvalues set to 0
d$c <- i %% 2
d$e <- (i %/% 3) %% 2
raw <- vcovCL(fit, ~ c + e, type = "HC0", cadjust = TRUE)
stopifnot(min(eigen(raw)$values) < 0)
fields$two_way_fixed <- vcovCL(fit, ~ c + e, type = "HC0", cadjust = TRUE, fix = TRUE)

# a linear trend with autocorrelated errors: least squares is the normal likelihood's estimate of beta, and its block
# of the information is that of beta alone
lake <- lm(LakeHuron ~ seq_along(LakeHuron))
names <- c("beta[0]", "beta[1]")
fields$lake_hac_5 <- NeweyWest(lake, lag = 5, prewhite = FALSE, adjust = FALSE)

v <- versions(c("stats", "sandwich"))
parts <- vapply(fields, function(m) {
  k <- if (nrow(m) == 2) c("beta[0]", "beta[1]") else c("beta[0]", "beta[1]", "beta[2]", "beta[3]")
  low <- lower.tri(m, TRUE)
  numbers(setNames(m[low], paste(k[row(m)[low]], k[col(m)[low]])), 2)
}, "")
lake_data <- paste0("[", paste(number(as.numeric(LakeHuron)), collapse = ", "), "]")
cat(object(c("software", names(fields), "lake"), c(object(names(v), quoted(v), 2), parts, lake_data), 0), "\n", sep = "",
    file = file.path("tests", "references", "covariances.json"))
