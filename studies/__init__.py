"""What is stored: study configuration, Optuna's storage and our own evaluation tables."""
