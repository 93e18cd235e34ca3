"""Systems that learn deformations: of a population, between images."""
