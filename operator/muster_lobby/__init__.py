"""Where workers of External pools enrol, and wait for jobs that want them.

The one part of Muster that stands open to other people's sites while no job runs, so it is a process of its own that
may do little: it reads FederatedJobs and ClientPools, signs with the authorities of External pools, one request at a
time, and writes `status.lobby` of these pools. It remembers nothing: what is offered follows from the API server's
objects, who waits from the streams that are open.
"""
