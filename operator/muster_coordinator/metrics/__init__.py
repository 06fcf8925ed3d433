"""The coordinator's metrics: what is told and what is there, as numbers for Prometheus.

`changes` turns what the engine tells people into counts, `gauges` turns its state into what is so right now, `phases`
follows a round through its phases: all three are pure. `families` knows Prometheus, `calls` stands before gRPC's
handlers, `ports` around the driver's, and `metering` puts them together. Nothing outside this package knows of it but
assembly.py and process.py.
"""
