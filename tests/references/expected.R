# Errors from the expected information, for links that are not canonical: glm with probit and complementary log-log, MASS::glm.nb
# (whose errors hold theta), and Rao's score test of one term.
source("tests/references/common.R")
suppressMessages(library(MASS))
control <- glm.control(epsilon = 1e-15, maxit = 100)
d <- read_data("birthwt")
e <- read_data("epil")
errors <- function(f) numbers(sqrt(diag(vcov(f))), 4)
probit <- glm(low ~ age + lwt + smoke, binomial(probit), d, control = control)
cloglog <- glm(low ~ age + lwt + smoke, binomial(cloglog), d, control = control)
small <- glm(low ~ age + lwt, binomial(probit), d, control = control)
rao <- anova(small, probit, test = "Rao")$Rao[2]
nb <- glm.nb(y ~ trt + lbase + lage, e, control = control)
v <- versions(c("stats", "MASS"))
cat(object(c("software", "probit", "cloglog", "rao", "negbin", "theta"),
           c(object(names(v), quoted(v), 2), errors(probit), errors(cloglog), number(rao), errors(nb), number(nb$theta)), 0), "\n", sep = "",
    file = file.path("tests", "references", "expected.json"))
