"""Modules that the scripts share; the README says what each holds."""
