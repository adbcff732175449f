"""The inspector: what the compiler made of a program, as a page, as data, as text."""
