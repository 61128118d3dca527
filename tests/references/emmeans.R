# Marginal means of a Poisson regression with two factors, averaged over a balanced grid on the scale of the response, and contrasts.
source("tests/references/common.R")
suppressMessages(library(emmeans))
control <- glm.control(epsilon = 1e-15, maxit = 100)
d <- read_data("warpbreaks")
d$tension <- factor(ifelse(d$tension_m == 1, "M", ifelse(d$tension_h == 1, "H", "L")), levels = c("L", "M", "H"))
d$wool <- factor(ifelse(d$wool_b == 1, "B", "A"))
fit <- glm(breaks ~ wool * tension, poisson, d, control = control)
means <- emmeans(fit, ~ tension, regrid = "response")
m <- as.data.frame(means); k <- as.data.frame(contrast(means, "trt.vs.ctrl"))
v <- versions("emmeans")
cat(object(c("software", "means", "se", "contrasts", "contrasts_se"),
           c(object(names(v), quoted(v), 2), numbers(setNames(m[[2]], m$tension), 2), numbers(setNames(m$SE, m$tension), 2),
             numbers(setNames(k$estimate, c("M", "H")), 2), numbers(setNames(k$SE, c("M", "H")), 2)), 0), "\n", sep = "",
    file = file.path("tests", "references", "emmeans.json"))
