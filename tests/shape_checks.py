"""What checks annotations where MLEJAX_CHECK_SHAPES is set: beartype, for which an integer is a float too (PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
