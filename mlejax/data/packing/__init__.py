"""From columns to the arrays of a program: their layout, padding, and columns read where they lie."""
