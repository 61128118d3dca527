# Crossed and nested random effects: lme4 (linear models, exact) and glmmTMB (Laplace's approximation), and data of
# tests/latent/data and examples/data: lme4's Penicillin and Pastes (Davies & Goldsmith 1972), 100 persons of VerbAgg (Vansteelandt 2000).
source("tests/references/common.R")
suppressMessages({library(lme4); library(glmmTMB); library(ordinal); library(survival)})
write_table <- function(d, name, out = "tests/latent/data")
  write.csv(d, file.path(out, paste0(name, ".csv")), row.names = FALSE, quote = FALSE)
write_table(Penicillin, "penicillin", "examples/data")
write_table(Pastes[c("strength", "batch", "cask")], "pastes")
v <- VerbAgg[VerbAgg$id %in% unique(VerbAgg$id)[1:100], ]
verbal <- data.frame(person = as.integer(v$id), item = as.integer(v$item), y = as.integer(v$r2 == "Y"))
write_table(verbal, "verbagg", "examples/data")
bottles <- data.frame(rating = as.integer(wine$rating), warm = as.integer(wine$temp == "warm"),
                      contact = as.integer(wine$contact == "yes"), judge = as.integer(wine$judge))
write_table(bottles, "wine", "examples/data")
k <- survival::kidney
catheters <- data.frame(time = k$time, failed = k$status, id = k$id, age = k$age, female = as.integer(k$sex == 2))
write_table(catheters, "kidney", "examples/data")
g <- read.csv("tests/latent/data/grouseticks.csv")

linear <- function(m) c(logLik(m), unname(fixef(m)), as.data.frame(VarCorr(m))$sdcor, sqrt(vcov(m)[1, 1]))
laplace <- function(m) c(logLik(m), unname(fixef(m)$cond), exp(unname(m$fit$par[names(m$fit$par) == "theta"])))
errors <- function(m) unname(sqrt(diag(vcov(m, full = TRUE))))
ticks <- glmmTMB(ticks ~ factor(year) + height + (1 | brood) + (1 | location), g, poisson)
irt <- glmmTMB(y ~ 1 + (1 | person) + (1 | item), verbal, binomial)
rated <- clmm(rating ~ temp + contact + (1 | judge), wine, nAGQ = -25, control = clmm.control(gradTol = 1e-10))
answers <- list(
  wine = c(logLik(rated), unname(coef(rated)), sqrt(unlist(VarCorr(rated)))), wine_errors = unname(sqrt(diag(vcov(rated)))),
  penicillin = linear(lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin, REML = FALSE)),
  pastes = linear(lmer(strength ~ 1 + (1 | batch / cask), Pastes, REML = FALSE)),
  ticks = laplace(ticks), ticks_errors = errors(ticks), irt = laplace(irt), irt_errors = errors(irt)
)
list_of <- function(x) paste0("[", paste(number(x), collapse = ", "), "]")
cat(object(names(answers), vapply(answers, list_of, ""), 0), "\n", sep = "", file = "tests/references/crossed.json")
