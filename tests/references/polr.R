# Ordered logit: MASS::polr as it comes (BFGS, and a Hessian by differences of its gradient), and the same likelihood
# taken to its maximum by Newton steps, whose Hessian is numDeriv's Richardson extrapolation of the exact gradient.
source("tests/references/common.R")
d <- read_data("housing")
d <- d[rep(seq_len(nrow(d)), d$count), ]
y <- match(d$satisfaction, c("low", "medium", "high"))
X <- cbind(influence_medium = d$influence == "medium", influence_high = d$influence == "high",
           apartment = d$type == "apartment", atrium = d$type == "atrium", terrace = d$type == "terrace",
           contact_high = d$contact == "high") * 1
names <- c(paste0("beta[", colnames(X), "]"), "cut[0]", "cut[1]")

frame <- data.frame(y = factor(y, ordered = TRUE), X)
fit <- MASS::polr(y ~ ., data = frame, Hess = TRUE, control = list(reltol = 1e-16, maxit = 1000))
call <- "polr(satisfaction ~ influence + type + contact, Hess = TRUE)"
model <- "P(y <= j) = logistic(cut[j] - x beta)"
write_reference("polr", model, call, "MASS", nrow(d), as.numeric(logLik(fit)), setNames(c(coef(fit), fit$zeta), names),
                setNames(sqrt(diag(vcov(fit))), names),
                notes = "standard errors from polr's differenced Hessian (step 1e-3): good to about 3e-8 relative")

# Exact per-row scores in (beta, cut): with F logistic, dF = F (1 - F), P(y = j) = F(cut_j - x beta) - F(cut_{j-1} - x beta).
scores <- function(theta) {
  cuts <- c(-Inf, theta[7:8], Inf)
  eta <- drop(X %*% theta[1:6])
  upper <- cuts[y + 1] - eta
  lower <- cuts[y] - eta
  p <- plogis(upper) - plogis(lower)
  du <- dlogis(upper) / p
  dl <- dlogis(lower) / p
  cbind(-X * (du - dl), ifelse(y == 1, du, 0) - ifelse(y == 2, dl, 0), ifelse(y == 2, du, 0) - ifelse(y == 3, dl, 0))
}
loglik <- function(theta) {
  cuts <- c(-Inf, theta[7:8], Inf)
  eta <- drop(X %*% theta[1:6])
  sum(log(plogis(cuts[y + 1] - eta) - plogis(cuts[y] - eta)))
}
gradient <- function(theta) colSums(scores(theta))
theta <- unname(c(coef(fit), fit$zeta))
for (turn in 1:5) {
  H <- numDeriv::jacobian(gradient, theta)
  theta <- theta - solve((H + t(H)) / 2, gradient(theta))
}
H <- numDeriv::jacobian(gradient, theta)
v <- solve(-(H + t(H)) / 2)
stopifnot(sqrt(drop(gradient(theta) %*% v %*% gradient(theta))) < 1e-11)
robust <- v %*% crossprod(scores(theta)) %*% v
write_reference("ologit", model, paste(call, "+ Newton on the same likelihood"), c("MASS", "numDeriv"), nrow(d), loglik(theta),
                setNames(theta, names), setNames(sqrt(diag(v)), names), setNames(sqrt(diag(robust)), names),
                notes = "inverse observed information; exact gradient, Hessian by Richardson extrapolation")
