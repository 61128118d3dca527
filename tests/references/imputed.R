# Rubin's rules: a logistic regression on birth weights of which a fifth of lwt was deleted and imputed five times; by mice, with the
# degrees of freedom of complete data (those of the joint test of lwt and smoke by Reiter 2007), and by mitools, with infinitely many.
source("tests/references/common.R")
suppressMessages({library(mice); library(mitools)})
control <- glm.control(epsilon = 1e-15, maxit = 100)
d <- read_data("birthwt")[, c("low", "age", "lwt", "smoke")]
gone <- seq(3, nrow(d), by = 5)
d$lwt[gone] <- NA
imputed <- mice(d, m = 5, method = "norm", seed = 1, printFlag = FALSE)
fits <- lapply(1:5, function(i) glm(low ~ age + lwt + smoke, binomial, complete(imputed, i), control = control))
found <- pool(as.mira(fits))$pooled
shown <- summary(pool(as.mira(fits)), conf.int = TRUE)
other <- MIcombine(fits)
few <- summary(other)
joint <- D1(as.mira(fits), as.mira(lapply(1:5, function(i) glm(low ~ age, binomial, complete(imputed, i), control = control))))$result
row <- c("estimate", "ubar", "b", "t", "df", "riv", "fmi")
table <- object(c("Intercept", "age", "lwt", "smoke"), vapply(1:4, function(i)
  numbers(c(unlist(found[i, row]), p = shown$p.value[i], low = shown[i, "2.5 %"], high = shown[i, "97.5 %"],
            df_large = other$df[[i]], se = few$se[i], low_large = few[i, "(lower"], high_large = few[i, "upper)"]), 4), ""), 2)
values <- paste0("[", paste(vapply(1:5, function(i) paste0("[", paste(number(complete(imputed, i)$lwt[gone]), collapse = ", "), "]"), ""),
                 collapse = ",\n "), "]")
v <- versions(c("mice", "mitools"))
joint <- object(c("F", "df1", "df2", "p"), number(joint[1, c("F.value", "df1", "df2", "P(>F)")]), 2)
cat(object(c("software", "pooled", "joint", "first", "step", "lwt"), c(object(names(v), quoted(v), 2), table, joint, "2", "5", values), 0), "\n", sep = "",
    file = file.path("tests", "references", "imputed.json"))
