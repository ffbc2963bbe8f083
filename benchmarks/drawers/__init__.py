"""Contestants that draw pictures one at a time, each in a process of its own.

A contestant's module reads a request a line and answers with the milliseconds of its stages, so
that none has the threads, the memory or the caches of another.
"""
