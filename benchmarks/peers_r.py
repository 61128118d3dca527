"""R programs, where Rscript and their packages are: survreg and maxLik on the same arrays, TMB from nothing to the table.

R's own clock times the fits of survreg and maxLik, on data that it has read; TMB is timed as a whole process, with the
compilation of its C++ template, as its users write it: `compile`, `dyn.load`, `MakeADFun`, `nlminb`, `sdreport`.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

Answer = tuple[np.ndarray, np.ndarray]  # estimates and standard errors
Data = dict[str, np.ndarray]

READ = """
a <- commandArgs(TRUE); d <- as.matrix(read.csv(a[1])); rounds <- as.integer(a[2])
X <- unname(d[, grep("^x", colnames(d))]); k <- ncol(X)
say <- function(est, se, secs) for (v in list(est, se, secs)) cat(sprintf("%.17g", v), "\\n")
"""

SURVREG = """
suppressMessages(library(survival)); s <- Surv(log(d[, "t"]), d[, "d"]); secs <- c()
for (r in 1:rounds) secs <- c(secs, system.time(f <- survreg.fit(X, s, NULL, NULL, NULL,
  survreg.control(rel.tolerance = 1e-12), survreg.distributions$extreme, 0, 1, NULL))[["elapsed"]])
est <- c(f$coefficients[1:k], exp(f$coefficients[k + 1])); se <- sqrt(diag(f$var)); se[k + 1] <- se[k + 1] * est[k + 1]
say(est, se, secs)
"""

# Newton's method with exact derivatives, all three from one evaluation, which is what its documentation calls fastest.
MAXLIK = """
suppressMessages(library(maxLik)); logt <- log(d[, "t"]); event <- d[, "d"]
ll <- function(u) {
  s <- exp(u[k + 1]); z <- as.vector(logt - X %*% u[1:k]) / s; e <- exp(z); r <- e - event
  H <- matrix(0, k + 1, k + 1); H[1:k, 1:k] <- -crossprod(X, X * (e / s^2))
  H[1:k, k + 1] <- H[k + 1, 1:k] <- -crossprod(X, r + z * e) / s; H[k + 1, k + 1] <- -sum(z * r + z^2 * e)
  structure(sum(event * (z - u[k + 1] - logt) - e), gradient = c(crossprod(X, r) / s, sum(r * z - event)), hessian = H)
}
start <- c(mean(logt), rep(0, k - 1), 0); secs <- c()
for (r in 1:rounds) secs <- c(secs, system.time({
  f <- maxLik(ll, start = start, method = "NR", control = list(tol = -1, reltol = -1, gradtol = 1e-5 * length(logt)^0.5))
  V <- vcov(f) })[["elapsed"]])
est <- coef(f); se <- sqrt(diag(V)); est[k + 1] <- exp(est[k + 1]); se[k + 1] <- se[k + 1] * est[k + 1]
say(est, se, secs)
"""


def r_times(script: str, data: Data, rounds: int) -> tuple[Answer, list[float]] | None:
    """Estimates, standard errors and the seconds of each round; None without R or the package."""
    with tempfile.TemporaryDirectory() as folder:
        others = [name for name in data if name != "X"]
        table = np.column_stack([data["X"], *(data[name] for name in others)])
        header = ",".join([*(f"x{j}" for j in range(data["X"].shape[1])), *others])
        np.savetxt(f"{folder}/d.csv", table, delimiter=",", header=header, comments="", fmt="%.17g")
        Path(f"{folder}/run.R").write_text(READ + script)
        done = _rscript([f"{folder}/run.R", f"{folder}/d.csv", str(rounds)], folder)
    if done is None:
        return None
    lines = [np.array(line.split(), float) for line in done.strip().splitlines()[-3:]]
    return (lines[0], lines[1]), lines[2].tolist()


def _rscript(arguments: list[str], folder: str) -> str | None:
    try:
        done = subprocess.run(["Rscript", *arguments], capture_output=True, text=True, timeout=600, cwd=folder)
    except FileNotFoundError:
        return None
    if done.returncode:
        print("R:", *done.stderr.strip().splitlines()[-1:])
        return None
    return done.stdout


def r_versions() -> dict[str, str]:
    """Versions of R, its packages used here and the C++ compiler; empty without R."""
    script = (
        'cat("R", as.character(getRversion()), "\\n"); for (p in c("survival", "maxLik", "TMB")) '
        'if (requireNamespace(p, quietly = TRUE)) cat(p, as.character(packageVersion(p)), "\\n")'
    )
    said = _rscript(["-e", script], ".")
    found = dict(line.split() for line in (said or "").splitlines())
    if "TMB" in found:
        compiler = subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True)
        found["g++"] = compiler.stdout.strip()
    return found


# ---- TMB

TMB_CPP = {
    "Logit": """
#include <TMB.hpp>
template<class Type>
Type objective_function<Type>::operator() () {
  DATA_VECTOR(y); DATA_MATRIX(X); PARAMETER_VECTOR(beta);
  vector<Type> eta = X * beta;
  Type nll = 0;
  for (int i = 0; i < y.size(); i++) nll -= dbinom_robust(y(i), Type(1), eta(i), true);
  return nll;
}
""",
    "NegativeBinomial": """
#include <TMB.hpp>
template<class Type>
Type objective_function<Type>::operator() () {
  DATA_VECTOR(y); DATA_MATRIX(X); PARAMETER_VECTOR(beta); PARAMETER(log_alpha);
  vector<Type> eta = X * beta;
  Type nll = 0;
  for (int i = 0; i < y.size(); i++) nll -= dnbinom_robust(y(i), eta(i), Type(2) * eta(i) + log_alpha, true);
  Type alpha = exp(log_alpha);
  ADREPORT(alpha);
  return nll;
}
""",
}
TMB_R = """
suppressMessages(library(TMB)); d <- as.matrix(read.csv("d.csv")); X <- unname(d[, -1]); y <- d[, 1]
compile("model.cpp"); dyn.load(dynlib("model"))
start <- list(beta = rep(0, ncol(X))); if (NEGBIN) start$log_alpha <- 0
obj <- MakeADFun(list(y = y, X = X), start, DLL = "model", silent = TRUE)
fit <- nlminb(obj$par, obj$fn, obj$gr)
s <- summary(sdreport(obj)); print(s)
if (NEGBIN) s <- s[rownames(s) != "log_alpha", ]
full <- function(v) paste(sprintf("%.17g", v), collapse = ",")
cat(sprintf("ANSWER [[%s], [%s]]\\n", full(s[, 1]), full(s[, 2])))
"""


def tmb_folder(model: str, data: Data, folder: Path) -> None:
    """What a TMB user has: the template, the script and the data."""
    header = ",".join(["y", *(f"x{j}" for j in range(data["X"].shape[1]))])
    np.savetxt(
        folder / "d.csv",
        np.column_stack([data["y"], data["X"]]),
        delimiter=",",
        header=header,
        comments="",
        fmt="%.17g",
    )
    (folder / "model.cpp").write_text(TMB_CPP[model])
    (folder / "run.R").write_text(TMB_R.replace("NEGBIN", "TRUE" if model == "NegativeBinomial" else "FALSE"))


def tmb_run(folder: Path) -> Answer:
    """One run from nothing: what an earlier one compiled is removed.

    Raises:
        FileNotFoundError: no Rscript. RuntimeError: no TMB, or no compiler.
    """
    for kept in (*folder.glob("model.o"), *folder.glob("model.so")):
        kept.unlink()
    done = subprocess.run(["Rscript", "run.R"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(" ".join(done.stderr.strip().splitlines()[-1:]))
    return answer_of(done.stdout)


def answer_of(printed: str) -> Answer:
    """The line of a program that repeats its estimates and errors in full."""
    line = next(line for line in printed.splitlines() if line.startswith("ANSWER "))
    estimates, errors = json.loads(line[7:])
    return np.array(estimates), np.array(errors)
