# Bootstrap intervals by R's package boot, on resamples that are written down here: a weight matrix made by a formula that
# tests make again, R = 199 resamples of 12 rows.  The statistics are the maximum-likelihood estimates of an exponential rate,
# 1 / weighted mean, and of a normal distribution.  BCa intervals get the influence values of the delete-one jackknife.
source("tests/references/common.R")
library(boot)

y <- c(3.1, 0.4, 7.9, 1.2, 5.5, 2.8, 0.9, 4.1, 12.3, 1.7, 6.2, 2.2)
n <- length(y)
replicates <- 199
# row drawn at place j of resample b: the generator of Park and Miller, so that no random numbers of R are needed
state <- 12345
weights <- matrix(0, replicates, n)
for (b in seq_len(replicates)) for (j in seq_len(n)) {
  state <- (16807 * state) %% 2147483647
  i <- state %% n + 1
  weights[b, i] <- weights[b, i] + 1
}
estimates <- function(w) {
  m <- sum(w * y) / sum(w)
  c(rate = 1 / m, mu = m, sigma = sqrt(sum(w * (y - m)^2) / sum(w)))
}
t0 <- estimates(rep(1, n))
t <- t(apply(weights, 1, estimates))
without <- t(sapply(seq_len(n), function(i) estimates(replace(rep(1, n), i, 0))))
influence <- (n - 1) * sweep(-without, 2, -colMeans(without))
jack_se <- sqrt((n - 1) / n * colSums(sweep(without, 2, colMeans(without))^2))
jack_bias <- (n - 1) * (colMeans(without) - t0)
object_of <- structure(list(t0 = t0, t = t, R = replicates, data = y, sim = "ordinary", stype = "w",
                            call = quote(boot(data = y, statistic = f, R = 199))), class = "boot")
limits <- function(j, type) {
  ci <- boot.ci(object_of, conf = 0.9, type = type, index = j, t = t[, j], t0 = t0[j], L = influence[, j])
  part <- ci[[c(perc = "percent", basic = "basic", bca = "bca", norm = "normal")[type]]]
  tail(as.numeric(part), 2)
}
fields <- c(call = quoted("boot.ci(conf = 0.9, type = ..., L = jackknife influence)"),
            software = { v <- versions("boot"); object(names(v), quoted(v), 2) },
            t0 = numbers(t0), sd = numbers(apply(t, 2, sd)), jack_se = numbers(jack_se), jack_bias = numbers(jack_bias))
for (type in c("perc", "basic", "bca", "norm")) {
  low <- sapply(1:3, function(j) limits(j, type)[1]); high <- sapply(1:3, function(j) limits(j, type)[2])
  names(low) <- names(high) <- names(t0)
  fields <- c(fields, setNames(c(numbers(low), numbers(high)), paste0(type, c("_lower", "_upper"))))
}
cat(object(names(fields), fields, 0), "\n", sep = "", file = "tests/references/boot.json")
