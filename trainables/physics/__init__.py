"""The physics behind the surrogate, in NumPy.  Energies in eV, lengths in Å, temperatures in K."""
