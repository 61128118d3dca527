"""Building blocks of tables of estimates: entries, z tests, lines below the table, and the format of numbers."""
