"""Comparisons as data: arms, contrasts, intervals, verdicts and the tables that show them."""
