# The likelihoods of benchmarks/peers.py through maxLik and bbmle, each by its default method: maxLik by Newton-Raphson
# with exact gradient and Hessian, bbmle by BFGS (L-BFGS-B where it takes bounds) with the exact gradient.  maxLik gets
# logarithms of scales and the logit of a probability, bbmle natural parameters within bounds.
#
#     Rscript benchmarks/verdicts.R [FILE]      from the root of the repository; writes benchmarks/results/verdicts_r.json

source(file.path("tests", "references", "common.R"))
case <- function(name) read.csv(file.path("tests", "cases", name, "data.csv"))

# ---- the log-likelihoods: row by row, with gradient (n x k) and Hessian (k x k) as attributes

glm_like <- function(X, value, residual, weight) function(p) {
  eta <- as.vector(X %*% p)
  structure(value(eta), gradient = residual(eta) * X, hessian = -crossprod(X, weight(eta) * X))
}

# From an expression of the parameters, differentiated by R's own deriv().
symbolic <- function(expression, names, data) {
  f <- deriv(expression, names, hessian = TRUE, function.arg = c(names, base::names(data)))
  function(p) {
    out <- do.call(f, c(as.list(unname(p)), unname(as.list(data))))
    structure(as.vector(out), gradient = attr(out, "gradient"), hessian = apply(attr(out, "hessian"), 2:3, sum))
  }
}

iris <- case("iris_separated"); s <- 2 * iris$versicolor - 1
separation <- glm_like(cbind(1, iris$petal_length), function(eta) plogis(s * eta, log.p = TRUE),
                       function(eta) s * plogis(-s * eta), function(eta) dlogis(eta))
counts <- case("constant_poisson_zero")
zeros <- glm_like(cbind(1, counts$x), function(eta) counts$y * eta - exp(eta) - lgamma(counts$y + 1),
                  function(eta) counts$y - exp(eta), exp)

normal <- quote(-log(s) - 0.5 * log(2 * pi) - 0.5 * ((y - a - b) / s)^2)
cauchy <- quote(-log(pi) - log(1 + (y - theta)^2))
# One batch of five: n = 5, the sum r and the sum of squares q of y - mu.
batch <- quote(-0.5 * (5 * log(2 * pi) + 4 * log(s^2) + log(s^2 + 5 * u^2) + (q - 2 * mu * r + 5 * mu^2) / s^2 -
                       u^2 * (r - 5 * mu)^2 / (s^2 * (s^2 + 5 * u^2))))

heights <- list(y = read_data("heights")$height)
dyes <- case("dyestuff2_boundary")
batches <- list(r = as.vector(tapply(dyes$yield, dyes$batch, sum)), q = as.vector(tapply(dyes$yield^2, dyes$batch, sum)))
y <- case("faithful_mix2")$waiting

# The mixture in (logit w, mu1, log sigma1, mu2, log sigma2), from responsibilities r, so that a narrow component does no harm.
mixture <- function(p) {
  w <- plogis(p[1])
  z <- cbind(y - p[2], y - p[4]) %*% diag(exp(-p[c(3, 5)]))
  density <- sweep(dnorm(z, log = TRUE), 2, c(plogis(p[1], log.p = TRUE) - p[3], plogis(-p[1], log.p = TRUE) - p[5]), "+")
  top <- pmax(density[, 1], density[, 2])
  value <- top + log(rowSums(exp(density - top)))
  r <- exp(density - value)
  times <- function(r, x) {
    x[r == 0, ] <- 0  # for 0 * Inf, far from a narrow component
    r * x
  }
  part <- function(k) cbind(z[, k] * exp(-p[2 * k + 1]), z[, k]^2 - 1)  # scores of a component in its mu and log sigma
  scores <- list(part(1), part(2))
  gradient <- cbind(r[, 1] - w, times(r[, 1], scores[[1]]), times(r[, 2], scores[[2]]))
  within <- matrix(0, 5, 5)
  within[1, 1] <- sum(r[, 1] * (1 - w)^2 + r[, 2] * w^2 - w * (1 - w))
  for (k in 1:2) {
    at <- 2 * k + 0:1
    g <- scores[[k]]
    within[1, at] <- within[at, 1] <- c(1 - w, -w)[k] * colSums(times(r[, k], g))
    second <- cbind(-exp(-2 * p[2 * k + 1]), -2 * g[, 1], -2 * z[, k]^2)
    mean <- colSums(times(r[, k], cbind(g[, 1]^2, g[, 1] * g[, 2], g[, 2]^2) + second))
    within[at, at] <- mean[c(1, 2, 2, 3)]
  }
  structure(value, gradient = gradient, hessian = within - crossprod(gradient))
}
mixture_natural <- function(p) {
  out <- mixture(c(qlogis(p[1]), p[2], log(p[3]), p[4], log(p[5])))
  slopes <- c(p[1] * (1 - p[1]), 1, p[3], 1, p[5])
  structure(as.vector(out), gradient = sweep(attr(out, "gradient"), 2, slopes, "/"))
}

# Where textbook formulas lose their digits, an edge on which the score is 0, and time in seconds since 1970.
limits <- read.csv(file.path("benchmarks", "results", "limits.csv"))
nb <- quote(lgamma(y + 1 / a) - lgamma(1 / a) - lgamma(y + 1) + (1 / a) * log(1 / a / (1 / a + mu)) + y * log(mu / (1 / a + mu)))
student <- quote(lgamma((df + 1) / 2) - lgamma(df / 2) - 0.5 * log(df * pi) - log(s) -
                 (df + 1) / 2 * log(1 + ((y - m) / s)^2 / df))
frontier <- list(quote(log(2) - 0.5 * log(2 * pi) - 0.5 * log(sv^2 + su^2) - 0.5 * (y - b)^2 / (sv^2 + su^2)),
                 quote(-(y - b) * su / sv / sqrt(sv^2 + su^2)))

# An expression plus the logarithm of the normal distribution function of another, which deriv() alone lets underflow.
plus_log_pnorm <- function(both, names, data) {
  parts <- lapply(both, function(e) deriv(e, names, hessian = TRUE, function.arg = c(names, base::names(data))))
  function(p) {
    at <- lapply(parts, function(f) do.call(f, c(as.list(unname(p)), unname(as.list(data)))))
    q <- as.vector(at[[2]])
    slope <- attr(at[[2]], "gradient")
    mills <- exp(dnorm(q, log = TRUE) - pnorm(q, log.p = TRUE))
    structure(as.vector(at[[1]]) + pnorm(q, log.p = TRUE), gradient = attr(at[[1]], "gradient") + mills * slope,
              hessian = apply(attr(at[[1]], "hessian") + mills * attr(at[[2]], "hessian"), 2:3, sum) -
                crossprod(slope, mills * (q + mills) * slope))
  }
}
s01 <- 2 * limits$event - 1
unix <- glm_like(cbind(1, limits$time), function(eta) plogis(s01 * eta, log.p = TRUE),
                 function(eta) s01 * plogis(-s01 * eta), function(eta) dlogis(eta))
frontier_set <- function(y) list(shown = 3, names = c("b", "sv", "su"), start = c(0, 1, 1),
  f = plus_log_pnorm(frontier, c("b", "sv", "su"), list(y = y)),
  g = plus_log_pnorm(lapply(frontier, unbounded, list(sv = log_of("sv"), su = log_of("su"))), c("b", "sv", "su"), list(y = y)),
  real = c(TRUE, FALSE, FALSE), lower = c(-Inf, 1e-8, 0), upper = Inf)

# With substitutions such as s = exp(ls), for programs without bounds.
unbounded <- function(expression, maps) do.call(substitute, list(expression, maps))
log_of <- function(name) call("exp", as.name(name))

positive <- 1e-8
sets <- list(
  separation = list(shown = 2, names = c("beta[0]", "beta[1]"), start = c(0, 0), f = separation),
  sum = list(shown = 1, names = c("a", "b", "sigma"), start = c(100, 50, 10),
    f = symbolic(normal, c("a", "b", "s"), heights),
    g = symbolic(unbounded(normal, list(s = log_of("s"))), c("a", "b", "s"), heights),
    real = c(TRUE, TRUE, FALSE), lower = c(-Inf, -Inf, positive), upper = Inf),
  variance = list(shown = 2, names = c("mu", "sigma_u", "sigma"), start = c(0, 1, 1),
    f = symbolic(batch, c("mu", "u", "s"), batches),
    g = symbolic(unbounded(batch, list(u = log_of("u"), s = log_of("s"))), c("mu", "u", "s"), batches),
    real = c(TRUE, FALSE, FALSE), lower = c(-Inf, 0, positive), upper = Inf),
  zeros = list(shown = 1, names = c("beta[0]", "beta[1]"), start = c(0, 0), f = zeros),
  cauchy = list(shown = 1, names = "theta", start = 3, f = symbolic(cauchy, "theta", list(y = case("cauchy_location")$y))),
  mixture = list(shown = 3, names = c("w", "mu1", "sigma1", "mu2", "sigma2"), start = c(0.5, 43, 0.01, 70.9, 13.57),
    f = mixture_natural, g = mixture,
    real = c(FALSE, TRUE, FALSE, TRUE, FALSE), unit = 1,
    lower = c(positive, -Inf, positive, -Inf, positive), upper = c(1 - positive, Inf, Inf, Inf, Inf)),
  nb = list(shown = 2, names = c("mu", "alpha"), start = c(1, 1),
    f = symbolic(nb, c("mu", "a"), list(y = limits$counts)),
    g = symbolic(unbounded(nb, list(mu = log_of("mu"), a = log_of("a"))), c("mu", "a"), list(y = limits$counts)),
    real = c(FALSE, FALSE), lower = c(positive, positive), upper = Inf),
  t = list(shown = 3, names = c("m", "s", "df"), start = c(0, 1, 5),
    f = symbolic(student, c("m", "s", "df"), list(y = limits$normals)),
    g = symbolic(unbounded(student, list(s = log_of("s"), df = log_of("df"))), c("m", "s", "df"), list(y = limits$normals)),
    real = c(TRUE, FALSE, FALSE), lower = c(-Inf, positive, positive), upper = Inf),
  frontier = frontier_set(limits$skewed),
  `wrong skew` = frontier_set(limits$wrong),
  time = list(shown = 2, names = c("beta[0]", "beta[1]"), start = c(0, 0), f = unix)
)

# ---- the programs

to_natural <- function(set, z) {
  if (is.null(set$g)) return(list(value = z, slope = rep(1, length(z))))
  value <- ifelse(set$real, z, exp(z))
  slope <- ifelse(set$real, 1, value)
  if (!is.null(set$unit)) {
    value[set$unit] <- plogis(z[set$unit])
    slope[set$unit] <- dlogis(z[set$unit])
  }
  list(value = value, slope = slope)
}

to_unbounded <- function(set) {
  z <- set$start
  if (is.null(set$g)) return(z)
  z[!set$real] <- log(z[!set$real])
  if (!is.null(set$unit)) z[set$unit] <- qlogis(set$start[set$unit])
  z
}

by_maxLik <- function(set) {
  f <- if (is.null(set$g)) set$f else set$g
  fit <- maxLik::maxLik(f, start = to_unbounded(set))
  found <- to_natural(set, coef(fit))
  says <- if (maxLik::returnCode(fit) %in% c(1, 2, 8)) "success" else "failure"  # 1, 2, 8: converged, by its manual
  list(says = says, message = maxLik::returnMessage(fit), params = found$value, se = found$slope * coef(summary(fit))[, 2])
}

by_bbmle <- function(set) {
  minus <- function(p) -sum(set$f(p))
  gradient <- function(p) -colSums(attr(set$f(p), "gradient"))
  names <- paste0("p", seq_along(set$start))
  bbmle::parnames(minus) <- names
  bbmle::parnames(gradient) <- names
  arguments <- list(minus, start = setNames(set$start, names), vecpar = TRUE, gr = gradient)
  if (!is.null(set$g)) {
    limits <- list(lower = setNames(set$lower, names), upper = setNames(rep(set$upper, length.out = length(names)), names))
    arguments <- c(arguments, method = "L-BFGS-B", limits)
  }
  fit <- do.call(bbmle::mle2, arguments)
  says <- if (fit@details$convergence == 0) "success" else "failure"
  message <- if (is.null(fit@details$message)) "" else fit@details$message
  list(says = says, message = message, params = unname(bbmle::coef(fit)), se = sqrt(diag(bbmle::vcov(fit))))
}

ask <- function(program, set) {
  seen <- character()
  out <- tryCatch(
    withCallingHandlers(program(set), warning = function(w) {
      seen <<- c(seen, conditionMessage(w))
      invokeRestart("muffleWarning")
    }),
    error = function(e) list(says = "error", message = conditionMessage(e))
  )
  c(out, list(warnings = unique(seen)))
}

# ---- writing

plain <- function(x) ifelse(is.na(x), "\"nan\"", ifelse(is.finite(x), number(x), ifelse(x > 0, "\"inf\"", "\"-inf\"")))
text <- function(x) quoted(gsub("\\\\", "\\\\\\\\", gsub("[[:space:]]+", " ", x)))
entry <- function(name, tool, set, said) {
  fields <- c(data_set = quoted(name), tool = quoted(tool), says = quoted(said$says), message = text(said$message),
              warnings = paste0("[", paste(if (length(said$warnings)) text(said$warnings), collapse = ", "), "]"))
  if (!is.null(said$params)) {
    fields <- c(fields, estimate = plain(said$params[[set$shown]]), se = plain(said$se[[set$shown]]),
                params = object(set$names, plain(unname(said$params)), 4))
  }
  object(names(fields), fields, 2)
}

tools <- list(maxLik = by_maxLik, bbmle = by_bbmle)
present <- Filter(function(tool) requireNamespace(tool, quietly = TRUE), names(tools))
said <- unlist(lapply(names(sets), function(name) lapply(present, function(tool)
  entry(name, tool, sets[[name]], ask(tools[[tool]], sets[[name]])))))
found <- versions(present)
file <- commandArgs(trailingOnly = TRUE)
cat(object(c("software", "said"), c(object(names(found), quoted(found), 2), paste0("[", paste(said, collapse = ", "), "]")), 0),
    "\n", sep = "", file = if (length(file)) file[1] else file.path("benchmarks", "results", "verdicts_r.json"))
