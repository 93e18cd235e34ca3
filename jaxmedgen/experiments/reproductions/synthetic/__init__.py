"""The parts of ``bin/reproduce synthetic_data_evaluation``."""
