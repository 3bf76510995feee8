"""Convolution by strategies: `choose.py` says which and why, `attach.py` is the door.

They compute in `strategies.py` and `winograd.py`; `geometry.py` says which window sees what.
"""
