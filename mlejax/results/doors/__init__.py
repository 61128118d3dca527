"""The methods of results: short methods that call inference and reports, one class for each topic."""
