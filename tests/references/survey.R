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

# Replicate weights: the schools in eight strata of 25, in two primary units each; factors by primary unit, for tests/covariance/test_survey.py
set.seed(1)
apistrat$stratum <- (seq_len(200) - 1) %/% 25; apistrat$unit <- 2 * apistrat$stratum + (seq_len(200) - 1) %% 2
pairs <- svydesign(id = ~unit, strata = ~stratum, weights = ~pw, data = apistrat, nest = FALSE)
first <- match(0:15, apistrat$unit)
out <- lapply(list(BRR = list(type = "BRR"), Fay = list(type = "Fay", fay.rho = 0.3), JKn = list(type = "JKn"),
                   bootstrap = list(type = "bootstrap", replicates = 30)), function(options) {
  design <- do.call(as.svrepdesign, c(list(pairs, compress = FALSE), options))
  factors <- weights(design, type = "replication")[first, ]
  errors <- function(mse) { design$mse <- mse; unname(sqrt(diag(vcov(binomial(design))))) }
  list(factors = factors, scale = design$scale, rscales = design$rscales, coef = unname(coef(binomial(design))),
       errors = errors(FALSE), errors_mse = errors(TRUE), df = degf(design))
})
out$version <- as.character(packageVersion("survey"))
writeLines(jsonlite::toJSON(out, digits = 16, auto_unbox = TRUE), "tests/references/survey_replicates.json")
