"""Training data, trainer and evaluation for image-to-3D-scene models."""

import os

# Threads that wait by spinning take the cores from whoever has work: beside one other busy
# process, training was 18 times slower. Read when torch loads its threads, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
