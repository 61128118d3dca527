"""What tables of estimates hold: entries, z tests, lines below the table, and how numbers are printed."""
