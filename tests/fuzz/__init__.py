"""Random calls of everything public, right and wrong ones, with a judge of what came of each.

Run as ``python -m tests.fuzz --cases 10000 --seconds 600 --seed 0``. The seed and the number of a case fix the call.
"""
