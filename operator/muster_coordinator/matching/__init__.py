"""FedMA's half of the coordinator: which units of different clients are the same (`assignment`), the sum that asks
(`rows`), and which layer's turn it is (`phases`).
"""
