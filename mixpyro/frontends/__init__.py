"""Ways in for people who do not write PyTorch: formulas, and estimators of scikit-learn."""
