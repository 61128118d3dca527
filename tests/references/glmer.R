# Random effects by adaptive Gauss-Hermite quadrature (lme4), and the data of tests/latent/data and examples/data/epil.csv.
# lme4 stops at about 1e-4 standard errors: the numbers are a cross-check; the truth in the tests is brute-force quadrature.
source("tests/references/common.R")
suppressMessages({library(lme4); library(MASS); library(HSAUR3); library(mlmRev); library(glmmTMB)})
write_table <- function(d, name, out = "tests/latent/data")
  write.csv(d, file.path(out, paste0(name, ".csv")), row.names = FALSE, quote = FALSE)

epil <- MASS::epil
seizures <- data.frame(subject = epil$subject, y = epil$y, lbase = round(epil$lbase, 12), lage = round(epil$lage, 12),
                       trt = as.integer(epil$trt == "progabide"), V4 = as.integer(epil$period == 4))
write_table(seizures, "epil", "examples/data")
b <- MASS::bacteria
bacteria <- data.frame(ID = b$ID, y = as.integer(b$y == "y"), drug = as.integer(b$trt == "drug"),
                       drugp = as.integer(b$trt == "drug+"), w2 = as.integer(b$week > 2))
write_table(bacteria, "bacteria")
nails <- data.frame(id = as.integer(toenail$patientID), y = as.integer(toenail$outcome == "moderate or severe"),
                    trt = as.integer(toenail$treatment == "terbinafine"), time = toenail$time)
write_table(nails, "toenail")
g <- lme4::grouseticks
grouse <- data.frame(brood = g$BROOD, location = g$LOCATION, ticks = g$TICKS, year = g$YEAR, height = round((g$HEIGHT - mean(g$HEIGHT)) / 100, 12))
write_table(grouse, "grouseticks")
k <- mlmRev::Contraception
births <- data.frame(district = k$district, use = as.integer(k$use == "Y"), age = round(k$age / 10, 12),
                     urban = as.integer(k$urban == "Y"), livch = k$livch)
write_table(births, "contraception")
births$livch <- factor(births$livch)

glmm <- function(formula, family, data, points) {
  m <- glmer(formula, data, family, nAGQ = points, control = glmerControl(optCtrl = list(maxfun = 1e5), tolPwrss = 1e-12))
  c(unname(fixef(m)), unname(getME(m, "theta")))
}
s <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE)
L <- as.matrix(getME(s, "Tlist")[[1]]) * sigma(s)
# intercepts and slopes by Laplace's approximation: lme4 offers no quadrature for two effects; glmmTMB is another program
births_formula <- use ~ age + I(age^2) + urban + livch + (1 + urban | district)
tmb <- glmmTMB(births_formula, births, binomial)
spread <- VarCorr(tmb)$cond$district
tmb_answer <- c(unname(fixef(tmb)$cond), unname(attr(spread, "stddev")), attr(spread, "correlation")[2, 1])
answers <- list(
  epil = glmm(y ~ lbase * trt + lage + V4 + (1 | subject), poisson, seizures, 25),
  bacteria = glmm(y ~ drug + drugp + w2 + (1 | ID), binomial, bacteria, 25),
  toenail = glmm(y ~ trt * time + (1 | id), binomial, nails, 50),
  cbpp = glmm(cbind(incidence, size - incidence) ~ period + (1 | herd), binomial, cbpp, 25),
  sleepstudy = c(unname(fixef(s)), L[1, 1], L[2, 1], L[2, 2], sigma(s)),
  grouseticks = glmm(ticks ~ factor(year) + height + (1 | brood), poisson, grouse, 25),
  contraception = glmm(use ~ age + I(age^2) + urban + livch + (1 | district), binomial, births, 25),
  contraception_slopes_glmmTMB = tmb_answer,
  contraception_slopes_glmmTMB_loglik = as.numeric(logLik(tmb)),
  contraception_slopes_glmmTMB_errors = sqrt(diag(vcov(tmb)$cond)),
  sleepstudy_loglik = as.numeric(logLik(s)))
lists <- vapply(answers, function(x) paste0("[", paste(number(x), collapse = ", "), "]"), "")
v <- versions(c("lme4", "MASS", "HSAUR3", "mlmRev", "glmmTMB"))
cat(object(c(names(answers), "software"), c(lists, object(names(v), quoted(v), 2)), 0), "\n", sep = "",
    file = "tests/references/glmer.json")
