# Sandwiches for few clusters.  A Poisson regression: HC2, HC3 by sandwich::vcovHC, CR2 and CR3 by clubSandwich::vcovCR, whose
# factors are those of working weights; and least squares, whose CR2 and CR3 are those of Bell & McCaffrey.
source("tests/references/common.R")
suppressMessages({library(sandwich); library(clubSandwich)})
control <- glm.control(epsilon = 1e-15, maxit = 100)
d <- read_data("warpbreaks")
d$c <- (seq_len(nrow(d)) - 1) %% 7
fit <- lm(breaks ~ wool_b + tension_m, d)
poisson_fit <- glm(breaks ~ wool_b + tension_m, poisson, d, control = control)
d$far <- exp((seq_len(nrow(d)) - 1) / 6)  # leverages from 0.7 to 6 times their mean: both sides of the 4 of HC4
far <- lm(breaks ~ wool_b + far, d)
poisson_far <- glm(breaks ~ wool_b + far, poisson, d, control = control)
se <- function(v) sqrt(diag(as.matrix(v)))
fields <- list(
  lm_HC2 = se(vcovHC(fit, "HC2")), lm_HC3 = se(vcovHC(fit, "HC3")),
  lm_CR2 = se(vcovCR(fit, d$c, "CR2")), lm_CR3 = se(vcovCR(fit, d$c, "CR3")),
  glm_HC2 = se(vcovHC(poisson_fit, "HC2")), glm_HC3 = se(vcovHC(poisson_fit, "HC3")),
  glm_CR3 = se(vcovCR(poisson_fit, d$c, "CR3")), glm_CR2 = se(vcovCR(poisson_fit, d$c, "CR2")),
  far_HC3 = se(vcovHC(far, "HC3")), far_HC4 = se(vcovHC(far, "HC4")), glm_far_HC4 = se(vcovHC(poisson_far, "HC4")))
v <- versions(c("stats", "sandwich", "clubSandwich"))
parts <- c(object(names(v), quoted(v), 2), vapply(fields, function(x) numbers(setNames(x, c("b0", "b1", "b2")), 2), ""))
cat(object(c("software", names(fields)), parts, 0), "\n", sep = "", file = file.path("tests", "references", "clusters.json"))
