"""Rows of data sets: findings, pages, fixes."""
