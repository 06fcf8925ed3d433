"""The coordinator of one FederatedJob: rounds, selection, sums, checkpoints and the gRPC server."""
