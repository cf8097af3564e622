"""Ways in for people who do not write PyTorch: estimators of scikit-learn."""
