# Penalised profile-likelihood intervals of Firth's logistic regression: logistf's own example, its data in sexagg.
source("tests/references/common.R")
library(logistf)
sharp <- list(maxit = 2000, lconv = 1e-12, xconv = 1e-12)
fit <- logistf(case ~ age + oc + vic + vicl + vis + dia, data = sexagg, weights = COUNT,
               control = do.call(logistf.control, c(sharp, gconv = 1e-12)), plcontrol = do.call(logistpl.control, sharp))
fields <- c(software = { v <- versions("logistf"); object(names(v), quoted(v), 2) }, params = numbers(coef(fit)),
            lower = numbers(fit$ci.lower), upper = numbers(fit$ci.upper))
cat(object(names(fields), fields, 0), "\n", sep = "", file = "tests/references/logistf.json")
