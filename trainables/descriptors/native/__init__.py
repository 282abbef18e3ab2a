"""The bispectrum by compiled code of our own: exact, and some fifteen times faster than LAMMPS on one core.

``engine.py`` is what others call.  ``images.py`` finds the atoms, ``tables.py`` the coefficients, ``order.py`` in which
order to sum, ``vector.py`` is the type that the kernels compute with, ``kernel.py`` and ``contract.py`` compute
descriptors, ``adjoint.py`` forces, ``forward_kernel.py`` and ``duals.py`` derivatives along each neighbour, and
``compiled.py`` keeps what was compiled.
"""
