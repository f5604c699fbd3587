"""Reruns identical seeds across configurations, and judges."""
