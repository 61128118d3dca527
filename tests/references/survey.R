# Survey designs: survey::svyglm of the data sets that come with the package, and the files in examples/data.
#   Rscript tests/references/survey.R
suppressMessages(library(survey))
data(api)
apistrat$sch <- as.integer(apistrat$sch.wide == "Yes"); apiclus1$sch <- as.integer(apiclus1$sch.wide == "Yes")
write <- function(d, columns, file) write.csv(d[, columns], file.path("examples/data", file), row.names = FALSE, quote = FALSE)
write(apistrat, c("stype", "sch", "ell", "meals", "mobility", "api00", "pw", "fpc"), "apistrat.csv")
write(apiclus1, c("dnum", "sch", "ell", "meals", "pw", "fpc"), "apiclus1.csv")

strata <- svydesign(id = ~1, strata = ~stype, weights = ~pw, data = apistrat, fpc = ~fpc)
clusters <- svydesign(id = ~dnum, weights = ~pw, data = apiclus1, fpc = ~fpc)
without <- svydesign(id = ~dnum, weights = ~pw, data = apiclus1)
binomial <- function(design) svyglm(sch ~ ell + meals, design, family = quasibinomial(), control = glm.control(epsilon = 1e-14, maxit = 100))
options(digits = 15)
for (fit in list(
  svyglm(api00 ~ ell + meals + mobility, strata),
  binomial(strata), binomial(clusters), binomial(without), binomial(subset(strata, stype != "H")),
  binomial(as.svrepdesign(without, type = "JK1"))
)) {
  print(fit$call)
  print(cbind(coef(fit), sqrt(diag(vcov(fit)))))
  print(degf(fit$survey.design))
}
print(packageVersion("survey"))
