"""What a result can be asked: one-line doors to inference and reports, a topic a class."""
