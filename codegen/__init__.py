"""Loops to native code."""
