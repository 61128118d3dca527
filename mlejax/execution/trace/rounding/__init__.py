"""How far rounding may have moved what a traced program computes: rules for operations, sums and arrays."""
