"""Writes watched frames and analysed pictures: tables, videos, plots and reports."""
