# Data that R packages ship and published examples use, and the numbers of those packages.  Writes public_schools.csv and ais.csv,
# skew_frontier.csv, credit.csv beside this script.
source("tests/references/common.R")
suppressMessages({library(sandwich); library(sn); library(AER)})
save <- function(d, name) write.csv(d, file.path("tests", "references", paste0(name, ".csv")), row.names = FALSE, quote = FALSE)

# Greene (1993), Econometric Analysis, 2nd ed., tables 14.1 to 14.3; Cribari-Neto (2004)
data("PublicSchools", package = "sandwich")
schools <- na.omit(PublicSchools)
names(schools) <- c("expenditure", "income")
save(schools, "public_schools")
schools$income <- schools$income * 1e-4
fit <- lm(expenditure ~ income + I(income^2), schools)
kinds <- paste0("HC", 0:4)
errors <- lapply(setNames(kinds, kinds), function(k) sqrt(diag(vcovHC(fit, k))))

# skew-normal laws, by their direct parameters
data("ais", package = "sn")
save(data.frame(female = as.integer(ais$sex == "female"), bmi = ais$BMI), "ais")
data("frontier", package = "sn")
save(data.frame(y = frontier), "skew_frontier")
skew <- function(y) {
  m <- selm(y ~ 1, data = data.frame(y = y))
  list(params = coef(m, "DP"), se = sqrt(diag(vcov(m, "DP"))), loglik = c(loglik = as.numeric(logLik(m))))
}
all <- skew(ais$BMI)
women <- skew(ais$BMI[ais$sex == "female"])

# Two steps: a logit of acceptance, whose fitted probability is a regressor of a Poisson regression; the example of Hardin (2002),
# Stata Journal 2, 253, and Hole (2006), Stata Journal 6, 521, on Greene's 100 rows.  Their formulas, from scores by hand.
data("CreditCard", package = "AER")
credit <- with(CreditCard[1:100, ], data.frame(
  card = as.integer(card == "yes"), reports = reports, age = round(age, 4), income = round(income, 2),
  expenditure = round(expenditure, 2), owner = as.integer(owner == "yes"), selfemp = as.integer(selfemp == "yes")))
save(credit, "credit")
control <- glm.control(epsilon = 1e-15, maxit = 100)
first <- glm(card ~ age + income + owner + selfemp, binomial, credit, control = control)
X <- model.matrix(first)
z <- 1 / (1 + exp(-drop(X %*% coef(first))))
second <- glm(reports ~ age + income + expenditure + z, poisson, credit, control = control)
W <- model.matrix(second)
mu <- exp(drop(W %*% coef(second)))
b <- coef(second)[["z"]]
V1 <- solve(t(X) %*% (X * z * (1 - z)))
V2 <- solve(t(W) %*% (W * mu))
u <- credit$reports - mu
S1 <- X * (credit$card - z)
S2 <- W * u
G <- X * b * z * (1 - z)  # derivative of the second predictor with respect to the first coefficients
C <- t(S2) %*% (G * u)  # outer products of scores, as the articles have it
R <- t(S2) %*% S1
C_observed <- t(W) %*% (G * mu)  # minus the derivative of the second scores ...
C_observed["z", ] <- C_observed["z", ] - colSums(X * z * (1 - z) * u)  # ... in which z itself stands before the residual
topel <- function(C) sqrt(diag(V2 + V2 %*% (C %*% V1 %*% t(C) - R %*% V1 %*% t(C) - C %*% V1 %*% t(R)) %*% V2))
I <- S2 - S1 %*% V1 %*% t(C_observed)
stacked <- sqrt(diag(V2 %*% t(I) %*% I %*% V2))

named <- function(x, names) numbers(setNames(x, names), 4)
group <- function(...) object(names(list(...)), c(...), 2)
s <- c("intercept", "income", "square")
d <- c("xi", "omega", "alpha")
w <- c("intercept", "age", "income", "expenditure", "z")
v <- versions(c("sandwich", "sn", "AER"))
fields <- c(
  software = object(names(v), quoted(v), 2),
  schools = do.call(group, c(list(params = named(coef(fit), s)), lapply(errors, named, s))),
  athletes = group(params = named(all$params, d), se = named(all$se, d), loglik = number(all$loglik)),
  women = group(params = named(women$params, d), se = named(women$se, d), loglik = number(women$loglik)),
  credit = group(params = named(coef(second), w), uncorrected = named(sqrt(diag(V2)), w), outer_products = named(topel(C), w),
                 murphy_topel = named(topel(C_observed), w), stacked = named(stacked, w)))
cat(object(names(fields), fields, 0), "\n", sep = "", file = file.path("tests", "references", "published.json"))
