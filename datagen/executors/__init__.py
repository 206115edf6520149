"""Executors: they run the work of stages in this process or on Ray.

They do not affect the content of datasets.
"""
