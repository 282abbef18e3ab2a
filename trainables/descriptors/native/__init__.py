"""The bispectrum by compiled code of our own: exact, and some fifteen times faster than LAMMPS on one core.

``engine.py`` is what others call.  ``images.py`` finds the atoms, ``tables.py`` the coefficients, ``vector.py`` is the
type that the kernels compute with, ``kernel.py`` computes descriptors, ``adjoint.py`` forces, and ``compiled.py`` keeps
what was compiled.
"""
