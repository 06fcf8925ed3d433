"""`muster simulate`: the driver that coordinators run and the loop that workers run, under a clock that is simulated.

`world` is the time and what is to happen in it; `profile` and `fleet` say what each client's machine and line are like;
`office` is the coordinator's side, made of production's parts; `line`, `bench` and `client` are a worker's side without
gRPC; `surrogate` stands in for training; `results` and `summary` say what came of it.
"""
