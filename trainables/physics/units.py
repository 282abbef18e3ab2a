"""CODATA 2018 constants.  The only place where units meet: inside, everything is eV, Å, K."""

K_B = 8.617333262e-5  # Boltzmann constant [eV/K]
RYDBERG = 13.605693122994  # [eV]
BOHR = 0.529177210903  # [Å]
HARTREE = 2 * RYDBERG  # [eV]
COULOMB = HARTREE * BOHR  # e²/(4πε₀) [eV Å]
KINETIC = RYDBERG * BOHR**2  # ħ²/2m of an electron [eV Å²]
