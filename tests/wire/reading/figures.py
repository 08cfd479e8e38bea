"""Figures that tests tell for the terminal summary: a line a wire."""

FIGURES: dict[str, str] = {}
