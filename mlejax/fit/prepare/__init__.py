"""What a fit is given, checked and put into arrays: arguments, data, fixed values, penalties."""
