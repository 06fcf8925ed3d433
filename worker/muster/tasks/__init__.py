"""Ready tasks: real data sets with the models that people know for them. Each module imports torch."""
