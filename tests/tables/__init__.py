"""Tests of tables in and tables out."""
