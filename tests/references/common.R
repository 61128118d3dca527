# Shared by the reference scripts: reading the examples' data and writing numbers as JSON with 16 significant digits.
# Every script is run from the root of the repository: Rscript tests/references/NAME.R

read_data <- function(name) read.csv(file.path("examples", "data", paste0(name, ".csv")), stringsAsFactors = FALSE)

quoted <- function(x) paste0('"', gsub('"', '\\\\"', x), '"')
number <- function(x) sub("\\.$", ".0", formatC(x, digits = 16, format = "g", flag = "#"))
object <- function(names, values, indent) {
  pad <- strrep(" ", indent)
  paste0("{\n", paste0(pad, "  ", quoted(names), ": ", values, collapse = ",\n"), "\n", pad, "}")
}
numbers <- function(x, indent = 2) object(names(x), number(x), indent)

versions <- function(packages) {
  found <- vapply(packages, function(p) as.character(packageVersion(p)), "")
  c(R = paste(R.version$major, R.version$minor, sep = "."), found)
}

# params, se and se_hc0 are named vectors in one order; the names are the addresses that mlejax uses.
write_reference <- function(name, model, call, packages, nobs, loglik, params, se, se_hc0 = NULL, notes = character()) {
  v <- versions(packages)
  fields <- c(
    name = quoted(name), model = quoted(model), call = quoted(call),
    software = object(names(v), quoted(v), 2),
    nobs = as.character(nobs), loglik = number(loglik),
    params = numbers(params), se = numbers(se)
  )
  if (!is.null(se_hc0)) fields <- c(fields, se_hc0 = numbers(se_hc0))
  if (length(notes)) fields <- c(fields, notes = paste0("[", paste(quoted(notes), collapse = ", "), "]"))
  cat(object(names(fields), fields, 0), "\n", sep = "", file = file.path("tests", "references", paste0(name, ".json")))
}
