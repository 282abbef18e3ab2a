"""From a cell to DFT snapshots: what is computed, the inputs, the runs of Quantum ESPRESSO, and their results."""
