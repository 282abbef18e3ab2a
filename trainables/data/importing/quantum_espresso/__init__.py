"""Calculations of Quantum ESPRESSO: logs, XML, cubes, and what they say together."""
