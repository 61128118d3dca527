"""What a fit is given, checked and laid out: arguments, data, fixed values, penalties."""
