# Crossed random effects with slopes, by formula: lme4 (linear, exact) and glmmTMB (Laplace's approximation, and errors of all
# parameters).  Data, examples/data/verbagg_modes.csv: the same 100 persons of VerbAgg (Vansteelandt 2000) as in crossed.R.
source("tests/references/common.R")
suppressMessages({library(lme4); library(glmmTMB)})
v <- VerbAgg[VerbAgg$id %in% unique(VerbAgg$id)[1:100], ]
d <- data.frame(person = as.integer(v$id), item = as.integer(v$item), y = as.integer(v$r2 == "Y"), score = as.integer(v$resp),
                does = as.integer(v$mode == "do"), male = as.integer(v$Gender == "M"))
write.csv(d, "examples/data/verbagg_modes.csv", row.names = FALSE, quote = FALSE)

# standard deviations and the correlation of each factor, in the order of the formula
spreads <- function(v) unlist(lapply(v, function(s) c(attr(s, "stddev"), if (nrow(s) > 1) attr(s, "correlation")[2, 1])))
# their errors: glmmTMB has logarithms of the standard deviations, and t with correlation t / sqrt(1 + t^2)
errors <- function(m, widths) {
  k <- length(fixef(m)$cond)
  own <- which(names(m$fit$par) == "theta")
  theta <- m$fit$par[own]
  slope <- c()
  for (q in widths) {
    t <- theta[length(slope) + 1:(q * (q + 1) / 2)]
    slope <- c(slope, exp(t[1:q]), if (q > 1) (1 + t[q + 1]^2)^-1.5)
  }
  v <- sqrt(diag(m$sdr$cov.fixed))
  c(v[1:k], v[own] * slope)
}
tight <- glmmTMBControl(optCtrl = list(iter.max = 1000, eval.max = 1000, rel.tol = 1e-15))
fine <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-10, ftol_abs = 1e-12, maxeval = 20000))
linear <- lmer(score ~ does + male + (1 + does | person) + (1 + male | item), d, REML = FALSE, control = fine)
same <- glmmTMB(score ~ does + male + (1 + does | person) + (1 + male | item), d, control = tight)
binary <- glmmTMB(y ~ does + male + (1 + does | person) + (1 | item), d, binomial, control = tight)
apart <- lmer(score ~ does + (1 + does || person) + (1 | item), d, REML = FALSE, control = fine)
stopifnot(abs(logLik(linear) - logLik(same)) < 1e-6)
answers <- list(
  linear = c(logLik(linear), fixef(linear), spreads(VarCorr(linear)), sigma(linear)), linear_errors = errors(same, c(2, 2)),
  independent = c(logLik(apart), fixef(apart), as.data.frame(VarCorr(apart))$sdcor),
  binary = c(logLik(binary), fixef(binary)$cond, spreads(VarCorr(binary)$cond)), binary_errors = errors(binary, c(2, 1))
)
list_of <- function(x) paste0("[", paste(number(unname(x)), collapse = ", "), "]")
cat(object(names(answers), vapply(answers, list_of, ""), 0), "\n", sep = "", file = "tests/references/crossed_slopes.json")
print(answers); print(max(abs(same$sdr$gradient.fixed))); print(max(abs(binary$sdr$gradient.fixed))); print(VarCorr(linear)); print(VarCorr(binary)); print(VarCorr(apart))
