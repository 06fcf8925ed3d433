"""What the benchmarks on real nodes share: Muster installed on two of them, and what there is in and around them."""
