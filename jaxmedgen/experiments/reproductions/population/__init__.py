"""The parts of ``bin/reproduce paddit``: arms, chains, real anatomy, geodesic registration."""
