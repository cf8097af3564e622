"""Tests of the ladder towards the exact posterior."""
