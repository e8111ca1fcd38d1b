"""Estimates: what a customization will do, take and cost, told before it runs."""
