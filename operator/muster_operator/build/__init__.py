"""Manifests of what a FederatedJob is made of. Pure: values in, dictionaries out."""
