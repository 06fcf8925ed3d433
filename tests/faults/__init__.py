"""What is done to jobs on real nodes, and what becomes of them: tests/cluster/test_real_pods_faults.py runs all of it.

`jobs` has the jobs and what it means that one ended well, `nodes` the ways to break nodes, networks and disks and to
mend them again. The others are the faults, each a function that first sees that its fault has landed and then that the
job ends well.
"""
