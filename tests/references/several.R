# Several models and several estimates at once: bbmle's table of criteria, multcomp's single-step, Holm and Scheffe adjustments.
source("tests/references/common.R")
suppressMessages({library(bbmle); library(multcomp)})
control <- glm.control(epsilon = 1e-15, maxit = 100)
d <- read_data("warpbreaks")
both <- glm(breaks ~ wool_b + tension_m + tension_h, poisson, d, control = control)
wool <- glm(breaks ~ wool_b, poisson, d, control = control)
tension <- glm(breaks ~ tension_m + tension_h, poisson, d, control = control)
tab <- AICtab(both, wool, tension, weights = TRUE, base = TRUE, logLik = TRUE, delta = TRUE, mnames = c("both", "wool", "tension"))
corrected <- AICctab(both, wool, tension, weights = TRUE, base = TRUE, mnames = c("both", "wool", "tension"), nobs = nrow(d))
table <- function(t) object(attr(t, "row.names"), vapply(seq_along(attr(t, "row.names")), function(i)
  numbers(vapply(unclass(t), `[`, 0, i), 4), ""), 2)
tests <- glht(both, linfct = diag(4)[-1, ])
set.seed(1)
crit <- qmvnorm(0.95, tail = "both.tails", corr = cov2cor(vcov(tests)), algorithm = Miwa(steps = 512))$quantile
weak <- glht(both, linfct = rbind(c(0, 0, 1, -0.8), c(0, 1, 0, -0.5), c(0, 1, -1, 0)))
q <- function(type) setNames(as.numeric(summary(weak, test = adjusted(type, maxpts = 5e6, abseps = 1e-9))$test$pvalues), c("a", "b", "c"))
z <- summary(weak)$test$tstat
scheffe <- setNames(pchisq(z^2, 3, lower.tail = FALSE), c("a", "b", "c"))
v <- versions(c("stats", "bbmle", "multcomp", "mvtnorm"))
parts <- c(object(names(v), quoted(v), 2), table(tab), table(corrected), number(crit),
  numbers(q("holm"), 2), numbers(q("bonferroni"), 2), numbers(q("single-step"), 2), numbers(scheffe, 2))
cat(object(c("software", "aic", "aicc", "critical", "holm", "bonferroni", "single-step", "scheffe"), parts, 0), "\n", sep = "",
    file = file.path("tests", "references", "several.json"))
